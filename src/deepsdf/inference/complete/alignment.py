"""Batches of similarities from a scan's frame to the unit frame, and the steps of a fit on their manifold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepsdf.inference.complete.options import Pose

MAX_TURN, MAX_GROWTH = 0.35, 0.2
"""Longest step: 20 degrees, and a factor of e^0.2 = 1.22. At either, a point on the unit sphere moves by about a third,
three times the width of the robust loss at its widest, so the linearised field says nothing beyond."""


@dataclass(frozen=True)
class Alignment:
    """b similarities: unit frame = scale · rotation @ scan frame + translation.

    Attributes:
        rotation: (b, 3, 3).
        scale: (b,), unit-frame length per length in the scan's frame.
        translation: (b, 3), unit frame.
    """

    rotation: Tensor
    scale: Tensor
    translation: Tensor

    @classmethod
    def of(cls, matrices: np.ndarray, device: torch.device) -> Alignment:
        """From similarities (b, 4, 4)."""
        linear = matrices[:, :3, :3]
        scale = np.cbrt(np.linalg.det(linear))
        parts = (linear / scale[:, None, None], scale, matrices[:, :3, 3])
        return cls(*(torch.as_tensor(part, dtype=torch.float32, device=device) for part in parts))

    def matrices(self) -> np.ndarray:
        """(b, 4, 4) float64."""
        matrices = np.tile(np.eye(4), (len(self.scale), 1, 1))
        matrices[:, :3, :3] = (self.scale[:, None, None] * self.rotation).double().cpu().numpy()
        matrices[:, :3, 3] = self.translation.double().cpu().numpy()
        return matrices

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, rows: Tensor | slice) -> Alignment:
        return Alignment(self.rotation[rows], self.scale[rows], self.translation[rows])

    def replaced(self, rows: Tensor, other: Alignment) -> Alignment:
        """A copy in which the similarities `rows` (k,) are those of another batch of k."""
        return Alignment(
            self.rotation.index_copy(0, rows, other.rotation),
            self.scale.index_copy(0, rows, other.scale),
            self.translation.index_copy(0, rows, other.translation),
        )

    def apply(self, points: Tensor) -> Tensor:
        """Points (n, 3) in the scan's frame -> (b, n, 3) in the unit frame."""
        return self.scale[:, None, None] * self.rotate(points) + self.translation[:, None]

    def rotate(self, directions: Tensor) -> Tensor:
        """Directions (n, 3) in the scan's frame -> (b, n, 3) in the unit frame."""
        return directions @ self.rotation.transpose(1, 2)


@dataclass(frozen=True)
class Freedom:
    """Which part of a pose is free: columns of the Jacobian, and steps along them.

    The parameters of a step, in this order: rotation vector (or the rotation angle about the up axis), translation,
    logarithm of the scale. Rotation and scaling are about a centre in the unit frame.

    Attributes:
        pose: see `CompletionOptions`.
        up: 0, 1 or 2, the up axis of the unit frame.
        scales: smallest and largest scale. With a small enough scale, any scan fits any spot of a surface.
    """

    pose: Pose
    up: int = 1
    scales: tuple[float, float] = (1e-6, 1e6)

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return {"none": 0, "yaw": 4, "rigid": 6, "similarity": 7}[self.pose]

    def columns(self, points: Tensor, gradients: Tensor, centre: Tensor) -> Tensor:
        """Derivatives (b, n, size) of a field at points that move with the alignment.

        Args:
            points: (b, n, 3), unit frame.
            gradients: (b, n, 3), of the field at the points.
            centre: (b, 3), of rotation and scaling, unit frame.
        """
        if self.pose == "none":
            return points[..., :0]
        arms = points - centre[:, None]
        # A rotation vector w moves a point by w × arm, which changes the field by g·(w × arm) = w·(arm × g).
        turning = torch.linalg.cross(arms, gradients)
        if self.pose == "yaw":
            turning = turning[..., self.up : self.up + 1]
        growing = (gradients * arms).sum(dim=-1, keepdim=True)
        return torch.cat([turning, gradients, *([growing] if self.pose == "similarity" else [])], dim=-1)

    def retract(self, start: Alignment, step: Tensor, centre: Tensor) -> Alignment:
        """The alignment after a step (b, size) about a centre (b, 3). Rotation and growth are limited to `MAX_TURN` and
        `MAX_GROWTH`."""
        if self.pose == "none":
            return start
        if self.pose == "yaw":
            turn = torch.zeros_like(centre)
            turn[:, self.up] = step[:, 0]
            step = step[:, 1:]
        else:
            turn, step = step[:, :3], step[:, 3:]
        angle = torch.linalg.vector_norm(turn, dim=1, keepdim=True).clamp_min(1e-9)
        rotation = _rotation_matrices(turn * (angle.clamp(max=MAX_TURN) / angle))
        growth = step[:, 3] if self.pose == "similarity" else torch.zeros_like(step[:, 0])
        growth = growth.clamp(-MAX_GROWTH, MAX_GROWTH).exp()
        growth = (start.scale * growth).clamp(*self.scales) / start.scale
        # x -> growth · rotation @ (x - centre) + centre + shift, after the alignment.
        arm = (rotation @ (start.translation - centre).unsqueeze(-1)).squeeze(-1)
        return Alignment(rotation @ start.rotation, growth * start.scale, growth[:, None] * arm + centre + step[:, :3])


def _rotation_matrices(turn: Tensor) -> Tensor:
    """(b, 3, 3) of rotation vectors (b, 3)."""
    x, y, z = turn.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


def rotations(pose: Pose, up: int, yaws: int, *, any_way_up: bool = False) -> np.ndarray:
    """Rotations (k, 3, 3) at which the search starts: `yaws` about the up axis, or 60 over all orientations."""
    from scipy.spatial.transform import Rotation

    if pose == "none":
        return np.eye(3)[None]
    if any_way_up and pose != "yaw":
        return Rotation.create_group("I").as_matrix()  # 60: any other rotation is within 45 degrees of one
    axis = np.eye(3)[up]
    return Rotation.from_rotvec(2 * np.pi * np.arange(yaws)[:, None] / yaws * axis).as_matrix()
