"""Similarities from a scan's frame to the unit frame, several at once, and the steps a fit takes among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepsdf.inference.complete.options import Pose

LONGEST_TURN, LONGEST_GROWTH = 0.35, 0.2
"""Of one step: radians, and the logarithm of the scale. Farther the linearisation tells nothing."""


@dataclass(frozen=True)
class Alignment:
    """b similarities: unit = scale · rotation @ p + translation.

    Attributes:
        rotation: (b, 3, 3).
        scale: (b,), unit lengths per length of the scan's frame.
        translation: (b, 3).
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
        found = np.tile(np.eye(4), (len(self.scale), 1, 1))
        found[:, :3, :3] = (self.scale[:, None, None] * self.rotation).double().cpu().numpy()
        found[:, :3, 3] = self.translation.double().cpu().numpy()
        return found

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, rows: Tensor | slice) -> Alignment:
        return Alignment(self.rotation[rows], self.scale[rows], self.translation[rows])

    def place(self, points: Tensor) -> Tensor:
        """Points (n, 3) of the scan's frame in the unit frame, (b, n, 3)."""
        return self.scale[:, None, None] * self.turn(points) + self.translation[:, None]

    def turn(self, directions: Tensor) -> Tensor:
        """Directions (n, 3), turned: (b, n, 3)."""
        return directions @ self.rotation.transpose(1, 2)

    def where(self, chosen: Tensor, other: Alignment) -> Alignment:
        """Those of `other` where chosen (b,), else its own."""
        return Alignment(
            torch.where(chosen[:, None, None], other.rotation, self.rotation),
            torch.where(chosen, other.scale, self.scale),
            torch.where(chosen[:, None], other.translation, self.translation),
        )


@dataclass(frozen=True)
class Freedom:
    """What of an alignment may change: columns of a Jacobian, and steps along them about a centre (b, 3).

    Attributes:
        pose: "yaw" turns about the axis `up` and moves, "rigid" turns and moves, "similarity" scales as well.
        up: 0, 1 or 2, the axis of the unit frame that is up.
        scales: the least and greatest. Small enough, any scan fits any spot of a surface.
    """

    pose: Pose
    up: int = 1
    scales: tuple[float, float] = (1e-6, 1e6)

    @property
    def size(self) -> int:
        return {"none": 0, "yaw": 4, "rigid": 6, "similarity": 7}[self.pose]

    def columns(self, points: Tensor, gradients: Tensor, centre: Tensor) -> Tensor:
        """How a field changes at points (b, n, 3) that move with the alignment: (b, n, size).

        Args:
            gradients: (b, n, 3) of the field at the points.
            centre: (b, 3), about which is turned and scaled.
        """
        if self.pose == "none":
            return points[..., :0]
        arms = points - centre[:, None]
        turning = torch.linalg.cross(arms, gradients)
        if self.pose == "yaw":
            turning = turning[..., self.up : self.up + 1]
        growing = (gradients * arms).sum(dim=-1, keepdim=True)
        return torch.cat([turning, gradients, *([growing] if self.pose == "similarity" else [])], dim=-1)

    def step(self, start: Alignment, step: Tensor, centre: Tensor) -> Alignment:
        """An alignment after a step (b, size), shortened where it is too long."""
        if self.pose == "none":
            return start
        if self.pose == "yaw":
            turn = torch.zeros_like(centre)
            turn[:, self.up] = step[:, 0]
            step = step[:, 1:]
        else:
            turn, step = step[:, :3], step[:, 3:]
        angle = torch.linalg.vector_norm(turn, dim=1, keepdim=True).clamp_min(1e-9)
        rotation = _rotation(turn * (angle.clamp(max=LONGEST_TURN) / angle))
        growth = step[:, 3] if self.pose == "similarity" else torch.zeros_like(step[:, 0])
        growth = growth.clamp(-LONGEST_GROWTH, LONGEST_GROWTH).exp()
        growth = (start.scale * growth).clamp(*self.scales) / start.scale
        arm = (rotation @ (start.translation - centre).unsqueeze(-1)).squeeze(-1)
        return Alignment(rotation @ start.rotation, growth * start.scale, growth[:, None] * arm + centre + step[:, :3])


def _rotation(turn: Tensor) -> Tensor:
    """Rotation matrices (b, 3, 3) of rotation vectors (b, 3)."""
    x, y, z = turn.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


def rotations(pose: Pose, up: int, yaws: int, *, any_way_up: bool = False) -> np.ndarray:
    """Rotations (k, 3, 3) to start from, evenly spread: about the axis `up`, or all of them."""
    from scipy.spatial.transform import Rotation

    if pose == "none":
        return np.eye(3)[None]
    if any_way_up and pose != "yaw":
        return Rotation.create_group("I").as_matrix()  # 60; any other is within 45 degrees of one
    axis = np.eye(3)[up]
    return Rotation.from_rotvec(2 * np.pi * np.arange(yaws)[:, None] / yaws * axis).as_matrix()
