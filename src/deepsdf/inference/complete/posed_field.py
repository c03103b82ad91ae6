"""The field of a code in the frame of a scan: values, derivatives by code and pose, and steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.inference.complete.alignment import Alignment, Freedom
from deepsdf.network.decoder import Decoder
from deepsdf.network.priors import GaussianPrior


@dataclass(frozen=True)
class State:
    """b codes with their poses.

    Attributes:
        whitened: (b, L), whitened codes.
        alignment: from the scan's frame to the unit frame.
    """

    whitened: Tensor
    alignment: Alignment

    @property
    def device(self) -> torch.device:
        return self.whitened.device

    def __len__(self) -> int:
        return len(self.whitened)

    def __getitem__(self, rows: Tensor | slice) -> State:
        return State(self.whitened[rows], self.alignment[rows])

    def replaced(self, rows: Tensor, other: State) -> State:
        """A copy in which the states `rows` (k,) are those of another batch of k."""
        return State(self.whitened.index_copy(0, rows, other.whitened), self.alignment.replaced(rows, other.alignment))


@dataclass(frozen=True)
class PosedField:
    """A decoder seen from a scan: parameters are the whitened code, then the free part of the pose (`Freedom`).

    Attributes:
        centre: (3,), centre of rotations and scalings, the scan's frame. Derivatives and steps by the pose, and thereby
            a posterior of the pose, hold for one centre only.
        fit_code: False: only the pose is a parameter.
        bfloat16: hidden layers compute in bfloat16.
    """

    decoder: Decoder
    prior: GaussianPrior
    freedom: Freedom
    centre: Tensor
    fit_code: bool = True
    bfloat16: bool = False

    @property
    def units(self) -> Tensor:
        """(k,), scales of the parameters: lengths of a unit of each whitened direction in code space; radians,
        unit-frame lengths and the logarithm of the scale each move a surface point by about 1."""
        pose = torch.ones(self.freedom.size, device=self.centre.device)
        return torch.cat([self.prior.std, pose]) if self.fit_code else pose

    def values(self, state: State, points: Tensor) -> Tensor:
        """Signed distances (b, n) at points (b, n, 3), unit frame."""
        return self._field(self.prior.colour(state.whitened), points)

    def jacobian(self, state: State, points: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distances (b, n), and their derivatives (b, n, k) by code and pose.

        Args:
            points: (b, n, 3), unit frame; they move with the pose.
        """
        codes = self.prior.colour(state.whitened)
        # One copy of the code per point: one backward pass gives the derivatives of every point by its own copy.
        copies = codes.unsqueeze(1).expand(-1, points.shape[1], -1).contiguous() if self.fit_code else codes
        points = points.detach().requires_grad_()
        wanted = [points, copies.requires_grad_()] if self.fit_code else [points]
        with torch.enable_grad():
            values = self._field(copies, points)
            gradients, *by_code = torch.autograd.grad(values.sum(), wanted)
        points = points.detach()
        columns = [self.freedom.columns(points, gradients, self._centres(state.alignment))]
        if self.fit_code:
            columns.insert(0, by_code[0] @ (self.prior.directions * self.prior.std))
        return values.detach(), torch.cat(columns, dim=-1)

    def retract(self, state: State, step: Tensor) -> State:
        """The states after steps (b, k) of code and pose."""
        length = state.whitened.shape[1] if self.fit_code else 0
        whitened = state.whitened + step[:, :length] if self.fit_code else state.whitened
        alignment = self.freedom.retract(state.alignment, step[:, length:], self._centres(state.alignment))
        return State(whitened, alignment)

    def _centres(self, alignment: Alignment) -> Tensor:
        """(b, 3), unit frame."""
        return alignment.apply(self.centre[None])[:, 0]

    def _field(self, codes: Tensor, points: Tensor) -> Tensor:
        """The decoder within the unit sphere. Beyond it, where it has seen few samples: its value at the nearest point
        of the sphere plus the distance from there."""
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self.bfloat16):
            radius = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp_min(1.0)
            return self.decoder(codes, points / radius) + (radius - 1.0).squeeze(-1)
