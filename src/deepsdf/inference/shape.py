"""Shapes, and the trained decoder and codes that they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import trimesh
from torch import Tensor

from deepsdf.devices import resolve_device
from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.options import SHAPE_TOLERANCE, Meshing
from deepsdf.network.decoder import Decoder
from deepsdf.network.priors import GaussianPrior

CHUNK = 32_768
"""Points per evaluation: their activations fit into a processor's cache."""

GRADIENT_CHUNK = CHUNK // 2
"""Points per evaluation with gradients, which keep every layer's activations."""

MAX_UNLIKELINESS = 2.5
"""Unlikeliness of a code (see `unlikeliness`) above which a completion or an edit is reported as unlike the training
shapes. Codes drawn from the prior have 1, with a standard deviation of 1 / sqrt(2 L): 0.18 at code length 16."""


@dataclass(frozen=True)
class Shape:
    """A field in the unit frame: the decoder with a fixed code.

    Attributes:
        decoder: shared with the space.
        code: (L,).
    """

    decoder: Decoder
    code: Tensor

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of points (n, 3): (n,) float32, negative inside."""
        return self.sdf(points)

    @torch.no_grad()
    def sdf(self, points: np.ndarray) -> np.ndarray:
        """Signed distance of points (n, 3), unit frame: (n,) float32, negative inside."""
        points = as_points(points)
        values = np.empty(len(points), np.float32)
        for start in range(0, len(points), CHUNK):
            chunk = torch.from_numpy(points[start : start + CHUNK]).to(self.code.device)
            values[start : start + CHUNK] = self.decoder(self.code[None], chunk[None])[0].cpu().numpy()
        return values

    def sdf_and_gradient(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances (n,) of points (n, 3), unit frame, and their gradients (n, 3), float32."""
        points = as_points(points)
        values, gradients = np.empty(len(points), np.float32), np.empty((len(points), 3), np.float32)
        for start in range(0, len(points), GRADIENT_CHUNK):
            part = slice(start, start + GRADIENT_CHUNK)
            with torch.enable_grad():
                chunk = torch.from_numpy(points[part]).to(self.code.device).requires_grad_(True)
                sdf = self.decoder(self.code.detach()[None], chunk[None])[0]
                (gradient,) = torch.autograd.grad(sdf.sum(), chunk)
            values[part], gradients[part] = sdf.detach().cpu().numpy(), gradient.cpu().numpy()
        return values, gradients

    def mesh(self, meshing: Meshing | int = Meshing()) -> trimesh.Trimesh:
        """The shape's surface, unit frame, faces outward; see `deepsdf.polygonize`.

        Args:
            meshing: options, or the resolution. The tolerance defaults to 1/64 of a cell.
        """
        from deepsdf.geometry.isosurface.polygonize import polygonize

        meshing = Meshing.of(meshing)
        return polygonize(self, replace(meshing, tolerance=meshing.tolerance or SHAPE_TOLERANCE))


class TrainedCodes:
    """A decoder with its training codes and their prior: what fitting, completing and editing shapes need of a space.

    Attributes:
        decoder: in evaluation mode, on `device`.
        codes: (scenes, L); row k is the k-th shape of the training split.
        clamping_distance: δ of the training loss.
        device: device of the decoder and the codes.
    """

    def __init__(
        self, decoder: Decoder, codes: Tensor, *, clamping_distance: float = 0.1, device: str | torch.device = "auto"
    ) -> None:
        self.device = resolve_device(str(device))
        self.decoder = decoder.to(self.device).eval()
        self.codes = codes.detach().float().to(self.device)
        self.clamping_distance = clamping_distance
        if self.codes.ndim != 2 or self.codes.shape[1] != decoder.code_length:
            raise InputError(f"codes have shape {tuple(codes.shape)}; the decoder takes (n, {decoder.code_length})")

    @cached_property
    def is_trained(self) -> Tensor:
        """(scenes,) bool, which rows of `codes` are trained; rows of shapes that could not be trained on are zero."""
        return self.codes.abs().sum(dim=1) > 0

    @cached_property
    def trained_codes(self) -> Tensor:
        """The rows of `codes` that are trained."""
        return self.codes[self.is_trained]

    @cached_property
    def prior(self) -> GaussianPrior:
        """The Gaussian prior of the trained codes."""
        if len(self.trained_codes) < 2:
            raise InputError(f"a prior needs at least 2 training codes; this space has {len(self.trained_codes)}")
        return GaussianPrior.fit(self.trained_codes)


def unlikeliness(prior: GaussianPrior, code: Tensor) -> float:
    """Root mean square of a whitened code (L,): its distance from the mean of the training codes in units of the
    prior's standard deviations, per direction. Codes drawn from the prior have about 1."""
    return float(prior.whiten(code).square().mean().sqrt())


def as_points(points: np.ndarray) -> np.ndarray:
    """Points as a float32 copy.

    Raises:
        InputError: their shape is not (n, 3).
    """
    points = np.array(points, np.float32)  # torch does not accept reversed or read-only arrays
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points have shape {points.shape}; expected (n, 3)")
    return points
