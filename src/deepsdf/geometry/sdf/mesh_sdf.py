"""The signed distance of a triangle mesh, a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.repair.orientation import OrientedMesh, orient_mesh
from deepsdf.geometry.sdf.signs import SIGNS, Signed, as_stored, stabbing
from deepsdf.kernels import launch
from deepsdf.kernels.runtime import get_warp, warp_device


class MeshSDF:
    """Signed distance to a mesh: points (n, 3) -> sdf (n,) float32, negative inside, in the mesh's own frame.

    Args:
        mesh: any triangle mesh; "auto" copes with doubled, flipped, inner and missing faces.
        sign: how inside is told from outside.
            "auto": repair the mesh (see `orientation`), then exact where it is closed; winding number
            (threshold one half) where holes are left.
            "normal": angle-weighted pseudonormals (Baerentzen & Aanaes 2005) of the faces as stored; for clean,
            closed, outward meshes. "winding": winding number of the faces as stored (Barill et al. 2018).
            "original": DeepSDF's own vote of the 11 nearest of the points that 100 virtual cameras see; where they
            disagree the answer is NaN, and `sample_sdf` drops the point.
        device: "auto", "cpu" or a CUDA device, for Warp.
        keep_cavities: "auto" only; closed shells inside others that are wound the other way stay hollow.
        thicken: in the mesh's lengths; taken from every distance, so that the solid grows by it all round and open
            sheets, which have no inside of their own, become plates twice as thick: `|distance| - thicken`.
    Raises:
        InputError: unknown sign or device, or a thickness that is no length.
        MeshError: the mesh has no surface.
    """

    def __init__(
        self,
        mesh: trimesh.Trimesh,
        *,
        sign: str = "auto",
        device: str = "auto",
        keep_cavities: bool = False,
        thicken: float = 0.0,
    ) -> None:
        if sign not in SIGNS:
            raise InputError(f"sign {sign!r} is not known; choose one of {', '.join(SIGNS)}")
        if not 0 <= thicken < np.inf:
            raise InputError(f"thicken {thicken} is no thickness; give a length of the mesh's frame, 0 for none")
        self.mesh = mesh
        self.thicken = thicken
        self.sign = sign
        self.keep_cavities = keep_cavities
        self._asked_device = device
        self.device = warp_device(device)
        repair = (
            orient_mesh(mesh, keep_cavities=keep_cavities, device=self.device) if sign == "auto" else as_stored(mesh)
        )
        self.oriented: OrientedMesh = repair
        """The repaired mesh, with counts of what was dropped, flipped, capped."""
        self._surface: Any = None
        self._signed: Signed | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Warp's handles stay behind; the repaired arrays travel, so a worker does not repair again
        return {**self.__dict__, "_surface": None, "_signed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.device = warp_device(self._asked_device)

    @property
    def closed(self) -> bool:
        """The mesh bounds a solid without any hole: the sign is exact."""
        return self.oriented.closed

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Signed distances (n,) float32 of points (n, 3), both in the mesh's frame."""
        local = self._to_local(points)
        if len(local) == 0:
            return np.zeros(0, np.float32)
        if self._signed is None:
            self._signed = SIGNS[self.sign](self.oriented, self.device)
        signed, only_sign = self._signed(local)
        if only_sign is not None and only_sign.any():
            distance = self._closest(local[only_sign])[0]
            signed[only_sign] = np.where(np.isnan(signed[only_sign]), np.nan, np.copysign(distance, signed[only_sign]))
        return signed / np.float32(self.oriented.scale) - np.float32(self.thicken)

    def uncertain(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool: points (n, 3) of the mesh's frame where a second, independent method disagrees with the sign.

        The second method is the majority of 9 rays, by the parity of their crossings with the visible surface. On a
        clean closed mesh the two agree everywhere; the share where they do not is about as large as the share of
        wrong signs. Points without a sign (NaN) are uncertain.
        """
        local = self._to_local(points)
        inside = np.zeros(len(local), bool)
        faces = self.oriented.shell_faces[: self.oriented.shell_own]
        if self.sign != "auto":  # doubled faces are still there, and their crossings would cancel out
            faces = np.unique(np.sort(faces, axis=1), axis=0)
        if len(local) and len(faces):
            inside = stabbing(self.oriented.vertices, faces, self.device)(local)
        signed = self(points) + np.float32(self.thicken)
        return (inside != (signed < 0)) | np.isnan(signed)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Unsigned distances (n,) float32 of points (n, 3) to the outer surface, in the mesh's frame."""
        local = self._to_local(points)
        if len(local) == 0:
            return np.zeros(0, np.float32)
        return self._closest(local)[0] / np.float32(self.oriented.scale)

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closest points (n, 3) float64 on the outer surface and the rows (n,) of `mesh.faces` they lie on."""
        local = self._to_local(points)
        if len(local) == 0:
            return np.zeros((0, 3)), np.zeros(0, np.int64)
        _, face, found = self._closest(local)
        return found / self.oriented.scale + self.oriented.center, self.oriented.source_faces[face]

    def _to_local(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError(f"points have shape {points.shape}; a field takes (n, 3)")
        # float64 until the centre is gone: far from the origin float32 has no digits left for distances
        return ((points - self.oriented.center) * self.oriented.scale).astype(np.float32)

    def _closest(self, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        wp = get_warp()
        if self._surface is None:
            self._surface = launch.warp_mesh(self.oriented.vertices, self.oriented.faces, self.device)
        outputs = [(float, ()), (wp.int32, ()), (wp.vec3, (3,))]
        kernel = launch.kernels(self.device).closest_kernel
        distance, face, found = launch.points_through(kernel, local, [self._surface.id], outputs, self.device)
        return distance, face, found
