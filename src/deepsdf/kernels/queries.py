"""Geometric queries of a triangle mesh, as functions of NumPy arrays: closest points, signs, rays, self-intersections.

The rest of the library reaches Warp through this module and never sees a Warp type.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deepsdf.kernels.launch import compiled_kernels, in_chunks, points_through, to_device
from deepsdf.kernels.runtime import get_warp

# Faces per launch when searching self-intersections, where one face costs much more than one point.
_FACES_PER_CHUNK = 4096


class QueryMesh:
    """A triangle mesh on a device, with the bounding volume hierarchy that queries need.

    Points, directions and distances are in the frame of `vertices`, as float32.

    Args:
        vertices: (v, 3). Distances have float32 precision, so the mesh should be of about unit size.
        faces: (f, 3) int.
        device: Warp's name of the device, see `warp_device`.
        winding_numbers: also prepare for `winding_sign`, which takes longer.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, device: str, *, winding_numbers: bool = False) -> None:
        wp = get_warp()
        self.device = device
        self._count = len(faces)
        self._mesh = wp.Mesh(
            wp.array(np.ascontiguousarray(vertices, np.float32), dtype=wp.vec3, device=device),
            wp.array(np.ascontiguousarray(faces, np.int32).ravel(), dtype=wp.int32, device=device),
            support_winding_number=winding_numbers,
        )
        self._kernels = compiled_kernels(device)
        # Kernels get the id of the Warp mesh, which does not keep it alive: `self._mesh` does.

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distances (n,), faces (n,) int32 and closest points (n, 3) on the mesh, of points (n, 3) float32."""
        wp = get_warp()
        outputs = [(float, ()), (wp.int32, ()), (wp.vec3, (3,))]
        distance, face, position = points_through(
            self._kernels.closest_kernel, points, [self._mesh.id], outputs, self.device
        )
        return distance, face, position

    def pseudonormal_sign(
        self, of_faces: np.ndarray, of_edges: np.ndarray, of_vertices: np.ndarray
    ) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """A function of points (n, 3) float32 that returns signed distances (n,) and closest faces (n,) int32.

        The sign is that of the pseudonormal at the closest face, edge or vertex: negative behind it.

        Args:
            of_faces: (f, 3).
            of_edges: (3 f, 3), rows 3 k, 3 k + 1, 3 k + 2 for the edges 0-1, 1-2, 2-0 of face k.
            of_vertices: (v, 3).
        """
        wp = get_warp()
        normals = [
            to_device(array.astype(np.float32), wp.vec3, self.device) for array in (of_faces, of_edges, of_vertices)
        ]

        def signed(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            before = [self._mesh.id, self._mesh.indices, *normals]
            outputs = [(float, ()), (wp.int32, ())]
            distance, face = points_through(self._kernels.normal_sign_kernel, points, before, outputs, self.device)
            return distance, face

        return signed

    def winding_sign(self, points: np.ndarray, accuracy: float, *, closed: bool) -> np.ndarray:
        """Signed distances (n,) of points (n, 3) float32: negative where the winding number is above one half.

        Needs `winding_numbers=True`.

        Args:
            accuracy: of the winding number. Groups of faces farther away than this many of their radii are replaced
                by their dipole (Barill et al. 2018, where it is called beta).
            closed: the mesh has no boundary, so the sign cannot change without crossing the surface; it is then
                evaluated once per empty ball, which is faster.
        """
        wp = get_warp()
        outputs = [(float, ()), (wp.int32, ())]
        after = [accuracy, int(closed)]  # the order of the kernel's arguments between points and chain
        kernel = self._kernels.winding_sign_kernel
        return points_through(kernel, points, [self._mesh.id], outputs, self.device, after=after)[0]

    def odd_crossings(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """(n,) int32: how many of the rays from each point cross the mesh an odd number of times.

        Args:
            points: (n, 3) float32.
            directions: (r, 3), the same for every point.
        """
        wp = get_warp()
        before = [self._mesh.id, to_device(directions.astype(np.float32), wp.vec3, self.device)]
        return points_through(self._kernels.stab_kernel, points, before, [(wp.int32, ())], self.device)[0]

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First intersections of rays with the mesh.

        Args:
            origins, directions: (n, 3) float32; directions of unit length.
        Returns:
            hit (n,) bool; where it is True, positions (n, 3) float32 and unit face normals (n, 3) float32 turned
            towards the origin of the ray.
        """
        wp = get_warp()
        # Rays of a camera are already in spatial order, row by row, and have no bound to pass on: no chains here.
        hit = np.zeros(len(origins), bool)
        position, normal = (np.zeros((len(origins), 3), np.float32) for _ in range(2))

        def work(start: int, stop: int) -> None:
            count = stop - start
            face = wp.zeros(count, dtype=wp.int32, device=self.device)
            at, facing = (wp.zeros(count, dtype=wp.vec3, device=self.device) for _ in range(2))
            rays = [to_device(part[start:stop], wp.vec3, self.device) for part in (origins, directions)]
            inputs = [self._mesh.id, *rays]
            wp.launch(self._kernels.camera_kernel, count, inputs=inputs, outputs=[face, at, facing], device=self.device)
            hit[start:stop] = face.numpy() >= 0
            position[start:stop], normal[start:stop] = at.numpy(), facing.numpy()

        in_chunks(len(origins), work, self.device)
        return hit, position, normal

    def open_shares(
        self, points: np.ndarray, normals: np.ndarray, directions: np.ndarray, offset: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shares (n,) float32 of rays that leave surface points without hitting the mesh, in front and behind.

        Args:
            points, normals: (n, 3) float32, on the surface.
            directions: (r, 3), around +z; turned to each normal, and to its opposite for the rays behind.
            offset: distance from the surface at which rays start, so that they miss the face itself.
        """
        wp = get_warp()
        # one table for all points; the kernel turns it to each normal
        table = to_device(directions.astype(np.float32), wp.vec3, self.device)
        front, back = (np.zeros(len(points), np.float32) for _ in range(2))

        def work(start: int, stop: int) -> None:
            above, below = (wp.zeros(stop - start, dtype=float, device=self.device) for _ in range(2))
            starts = [to_device(part[start:stop], wp.vec3, self.device) for part in (points, normals)]
            inputs = [self._mesh.id, *starts, table, offset]
            wp.launch(
                self._kernels.escape_kernel, stop - start, inputs=inputs, outputs=[above, below], device=self.device
            )
            front[start:stop], back[start:stop] = above.numpy(), below.numpy()

        in_chunks(len(points), work, self.device)
        return front, back

    def crossing_faces(self) -> np.ndarray:
        """(f,) bool: faces that pass through another face. Neighbours that share a corner there do not count."""
        wp = get_warp()
        # A face marks itself and the other face. Several threads may write the same flag, but all write 1.
        flags = wp.zeros(self._count, dtype=wp.int32, device=self.device)

        def work(start: int, stop: int) -> None:
            inputs = [self._mesh.id, self._mesh.points, self._mesh.indices, start]
            wp.launch(
                self._kernels.self_intersection_kernel, stop - start, inputs=inputs, outputs=[flags], device=self.device
            )

        in_chunks(self._count, work, self.device, size=_FACES_PER_CHUNK)
        return flags.numpy().astype(bool)
