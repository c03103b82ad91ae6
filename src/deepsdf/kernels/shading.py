"""Shaded pictures of a triangle mesh: runs the kernels of `render_kernels` on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepsdf.kernels.launch import compiled_kernels, cpu_threads
from deepsdf.kernels.runtime import get_warp

_BAND = 16_384
"""Rays per launch on the CPU: the 1024² rays of a picture of 512 pixels make 64 bands, enough to balance threads."""


@dataclass(frozen=True, eq=False)
class ShadedMesh:
    """A mesh in the frame of the picture.

    Attributes:
        vertices: (v, 3).
        faces: (f, 3) int.
        colours: (v, 3) linear, of the vertices; or (1, 3), one for all.
        crease: cosine of the angle between faces above which their edge is drawn hard.
        merged: (3 f,) int32, merged vertex of each corner. Vertices at the same position are one for normals.
        starts: (m + 1,) int32, where the faces of each merged vertex start in `incident`.
        incident: (3 f,) int32, faces, by merged vertex.
        disputed: (m,) bool, merged vertices whose faces are wound inconsistently.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    crease: float
    merged: np.ndarray
    starts: np.ndarray
    incident: np.ndarray
    disputed: np.ndarray


def shade_mesh(
    scene: Mapping[str, Any],
    mesh: ShadedMesh,
    rays: tuple[np.ndarray, np.ndarray],
    device: str,
    *,
    surface_colours: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """A picture (width * width, 4) float32 in [0, 1], row by row from the top: sRGB times opacity, and opacity.

    Args:
        scene: values of the fields of `render_kernels.Scene`, except `mesh`.
        rays: directions of sky and key rays, (256, k, 3) each.
        device: Warp's name of the device.
        surface_colours: maps the points (m, 3) float32 that pixels see to linear colours (m, 3); replaces
            `mesh.colours`.
    """
    warp = get_warp()
    kernels = compiled_kernels(device, "render_kernels")

    def upload(array: np.ndarray, dtype: Any = warp.vec3) -> Any:
        kind = np.float32 if dtype is warp.vec3 else None
        return warp.array(np.ascontiguousarray(array, kind), dtype=dtype, device=device)

    def blank(dtype: Any, count: int = scene["width"] ** 2) -> Any:
        return warp.empty(count, dtype=dtype, device=device)

    points, corners = upload(mesh.vertices), upload(mesh.faces.ravel(), warp.int32)
    hierarchy = warp.Mesh(points, corners)  # the scene holds only its id: keep a reference
    world = kernels.Scene()
    for name, value in scene.items():
        setattr(world, name, value)
    world.mesh = hierarchy.id
    # 1. Normals of the corners, smooth across edges that are not creases.
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    area = upload(np.cross(b - a, c - a))
    incidence = [upload(array, warp.int32) for array in (mesh.merged, mesh.starts, mesh.incident)]
    normals = blank(warp.vec3, mesh.faces.size)
    inputs = [*incidence, upload(mesh.disputed, warp.bool), area, mesh.crease, normals]
    _launch(kernels.corner_normals, mesh.faces.size, inputs, device)
    # 2. What each pixel sees, and the light there, from few rays per pixel.
    kind, position, normal, albedo, light = (
        blank(dtype) for dtype in (warp.int32, warp.vec3, warp.vec3, warp.vec3, warp.vec2)
    )
    surface = [points, corners, normals, upload(mesh.colours)]
    seen = [kind, position, normal, albedo, light]
    directions = [upload(table) for table in rays]
    picture = blank(warp.vec4)
    _launch(kernels.trace, len(picture), [world, *surface, *directions, *seen], device)
    if surface_colours is not None:
        rows = np.flatnonzero(kind.numpy() == kernels.SURFACE)
        if len(rows):
            painted = albedo.numpy()
            painted[rows] = surface_colours(position.numpy()[rows])
            albedo.assign(painted)
    # 3. Blur the light over neighbouring pixels of the same surface in two passes, then colour.
    mean = warp.empty_like(light)
    _launch(kernels.gather, len(picture), [world, kind, position, normal, light, mean], device)
    _launch(kernels.shade, len(picture), [world, kind, position, normal, albedo, mean, picture], device)
    return picture.numpy()


def _launch(kernel: Any, count: int, inputs: list[Any], device: str) -> None:
    """Run a kernel whose first argument is the index of its first thread; in bands on several threads on the CPU."""
    warp = get_warp()
    band = _BAND if device == "cpu" else count

    def run(first: int) -> None:
        warp.launch(kernel, dim=min(band, count - first), inputs=[first, *inputs], device=device)

    with ThreadPoolExecutor(cpu_threads()) as pool:
        list(pool.map(run, range(0, count, band)))
