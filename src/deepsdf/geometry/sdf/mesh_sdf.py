"""The signed distance of a triangle mesh, as a field and as a function."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.repair.orientation import OrientedMesh, orient_mesh
from deepsdf.geometry.sdf.signs import SIGNS, SignedDistance, as_stored, parity_vote
from deepsdf.kernels.queries import QueryMesh
from deepsdf.kernels.runtime import warp_device


def signed_distance(
    mesh: trimesh.Trimesh | str | os.PathLike[str], points: np.ndarray, *, sign: str = "auto", device: str = "auto"
) -> np.ndarray:
    """Signed distances (n,) float32 of points (n, 3) to a mesh, negative inside; both in the mesh's frame and unit.

    The mesh is repaired first, as `MeshSDF` describes. For several sets of points make one `MeshSDF` and call it.

    Args:
        mesh: a triangle mesh, or the path of a mesh file.
        points: (n, 3). Pass float64 if the mesh is far from the origin compared with its size.
        sign: see `MeshSDF`.
        device: "auto", "cpu" or a CUDA device.
    Raises:
        NoFacesError: the file holds no faces; it may be a point cloud.
        MeshError: the file cannot be read, or the mesh has no surface.
        InputError: unknown sign or device, or points of another shape.

    Example:
        >>> deepsdf.signed_distance("chair.obj", [[0.0, 0.5, 0.0]])
    """
    if not isinstance(mesh, trimesh.Trimesh):
        mesh = load_mesh(os.fspath(mesh))
    return MeshSDF(mesh, sign=sign, device=device)(points)


class MeshSDF:
    """Signed distance field of a mesh: points (n, 3) -> sdf (n,) float32, negative inside, in the mesh's frame.

    Args:
        mesh: any triangle mesh. With "auto", faces may be duplicated, wound either way, inside others or missing.
        sign: method that decides between inside and outside.
            "auto": repairs the mesh (see `geometry.repair.orientation`); exact if it is then closed, otherwise by the
            winding number (threshold one half) where holes matter.
            "normal": angle-weighted pseudonormals (Baerentzen & Aanaes 2005) of the faces as stored; for clean,
            closed, outward meshes. "winding": winding number of the faces as stored (Barill et al. 2018).
            "original": the original DeepSDF's vote of the 11 nearest points among those that 100 virtual cameras see;
            NaN where it is not unanimous, and `sample_sdf` drops the point.
        device: "auto", "cpu" or a CUDA device.
        keep_cavities: for "auto"; closed shells inside others stay hollow if they are wound the other way.
        thicken: length in the mesh's frame, subtracted from every distance: the solid grows by it, and open sheets,
            which have no interior, become plates of twice this thickness.
    Raises:
        InputError: unknown sign or device, or a negative or infinite thickness.
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
            raise InputError(f"sign is {sign!r}; expected one of {', '.join(SIGNS)}")
        if not 0 <= thicken < np.inf:
            raise InputError(f"thicken is {thicken}; expected a length of at least 0 in the mesh's frame (0: none)")
        self.mesh = mesh
        self.thicken = thicken
        self.sign = sign
        self.keep_cavities = keep_cavities
        self._requested_device = device
        self.device = warp_device(device)
        repair = (
            orient_mesh(mesh, keep_cavities=keep_cavities, device=self.device) if sign == "auto" else as_stored(mesh)
        )
        self.oriented: OrientedMesh = repair
        """The repaired mesh, with counts of faces dropped and flipped and of holes capped."""
        self._surface: QueryMesh | None = None
        self._signed: SignedDistance | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Device handles cannot be pickled; the repaired arrays can, so a worker does not repair again.
        return {**self.__dict__, "_surface": None, "_signed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # "auto" may be another device in the process that unpickles
        self.device = warp_device(self._requested_device)

    @property
    def closed(self) -> bool:
        """The mesh bounds a solid without any hole, so the sign is exact."""
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
            # Where the sign came from caps or from the solid with its buried faces, measure to the outer surface.
            distance = self._closest(local[only_sign])[0]
            signed[only_sign] = np.where(np.isnan(signed[only_sign]), np.nan, np.copysign(distance, signed[only_sign]))
        return signed / np.float32(self.oriented.scale) - np.float32(self.thicken)

    def uncertain(self, points: np.ndarray) -> np.ndarray:
        """(n,) bool: points (n, 3) in the mesh's frame at which a second, independent method disagrees with the sign.

        The second method is a majority vote of 9 rays, each by the parity of its crossings with the visible surface. On
        a clean closed mesh both agree everywhere; otherwise the share of disagreement is close to the share of wrong
        signs. Points without a sign (NaN) are uncertain.
        """
        local = self._to_local(points)
        inside = np.zeros(len(local), bool)
        faces = self.oriented.shell_faces[: self.oriented.shell_own]
        if self.sign != "auto":  # duplicate faces are still there, and would turn every crossing into two
            faces = np.unique(np.sort(faces, axis=1), axis=0)
        if len(local) and len(faces):
            inside = parity_vote(self.oriented.vertices, faces, self.device)(local)
        signed = self(points) + np.float32(self.thicken)
        return (inside != (signed < 0)) | np.isnan(signed)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Unsigned distances (n,) float32 of points (n, 3) to the outer surface, both in the mesh's frame."""
        local = self._to_local(points)
        if len(local) == 0:
            return np.zeros(0, np.float32)
        return self._closest(local)[0] / np.float32(self.oriented.scale)

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closest points (n, 3) float64 on the outer surface, and the faces (n,) they lie on, rows of `mesh.faces`."""
        local = self._to_local(points)
        if len(local) == 0:
            return np.zeros((0, 3)), np.zeros(0, np.int64)
        _, face, found = self._closest(local)
        return found / self.oriented.scale + self.oriented.center, self.oriented.source_faces[face]

    def _to_local(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError(f"points have shape {points.shape}; expected (n, 3)")
        # float64 until the centre is subtracted: far from the origin float32 has no digits left for distances
        return ((points - self.oriented.center) * self.oriented.scale).astype(np.float32)

    def _closest(self, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._surface is None:
            self._surface = QueryMesh(self.oriented.vertices, self.oriented.faces, self.device)
        return self._surface.closest(local)
