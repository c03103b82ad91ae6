"""Pictures of meshes, point clouds and fields without OpenGL or a display.

Pictures are (height, width, 3) uint8 arrays. The camera has a long lens and looks at the centre of the framed sphere.
At azimuth 0 and elevation 0 it sees the front (+z if y is up, -y if z is up) with +x to the right. Both angles are in
degrees; a positive azimuth moves the camera to its right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.kernels.runtime import warp_device
from deepsdf.kernels.shading import ShadedMesh, shade_mesh
from deepsdf.rendering import colours as render_colours
from deepsdf.rendering.camera import (
    CLAY,
    FILL_LIGHT,
    FRAMES,
    INK,
    KEY_LIGHT,
    WHITE,
    Axis,
    Camera,
    Colour,
    PictureOptions,
    developed,
    encode,
    linear_colours,
)
from deepsdf.rendering.colours import error_colours, legend, parse_colour, slice_image
from deepsdf.rendering.film import save_film
from deepsdf.rendering.sheet import grid_image, save_image
from deepsdf.rendering.splat import eye_dome_lighting, ground_shadow, splat

if TYPE_CHECKING:
    import trimesh

__all__ = [
    "CLAY",
    "INK",
    "PROBES",
    "WHITE",
    "Axis",
    "Colour",
    "PictureOptions",
    "error_colours",
    "error_picture",
    "grid_image",
    "legend",
    "parse_colour",
    "render_mesh",
    "render_points",
    "save_film",
    "save_image",
    "slice_image",
]

CREASE = float(np.cos(np.radians(38.0)))
"""Cosine of the angle between faces above which their edge is drawn hard: above the 36° between the faces of a
ten-sided cylinder, below the 45° of an eight-sided one."""

SKY_RAYS, KEY_RAYS = 3, 1
"""Rays per pixel towards the sky and towards the key light. Neighbouring pixels use different directions, and the blur
over 8 x 8 pixels of the surface (16 x 16 of the ground) sees 64 (256) times more."""

KEY_SOFTNESS = 0.16
"""Radius of the key light's disc at distance 1: softness of its shadows."""

PROBES = 10_000
"""Surface points from which the end of an error scale is chosen: their 99th percentile is known to 0.1 %."""

LARGEST = 16_384
"""Rays along a side at most: the buffers of such a picture take 20 GB."""


def render_mesh(
    mesh: trimesh.Trimesh,
    options: PictureOptions = PictureOptions(),
    *,
    vertex_colors: np.ndarray | None = None,
    surface_colors: Callable[[np.ndarray], np.ndarray] | None = None,
    cut: tuple[Axis, float] | None = None,
    device: str = "auto",
) -> np.ndarray:
    """Picture of a mesh in soft light. The orientation of the faces does not matter.

    Args:
        vertex_colors: (v, 3) sRGB, uint8 or float in [0, 1]; replaces `options.color`.
        surface_colors: maps points (n, 3) of the surface, in the mesh's frame, to colours (n, 3) in the same format;
            for colours that vary within a face.
        cut: a plane such as ("z", 0.1), in the mesh's frame; a dark line is drawn where it meets the surface.
        device: "auto", "cpu" or a CUDA device.
    Returns:
        (size, size, 3) uint8, or (size, size, 4) if the background is transparent.
    Raises:
        InputError: colours that do not match, an unknown axis, or a picture that is too large.
        MeshError: the mesh has no faces, or a vertex that is not finite.
    """
    vertices, faces, used = _checked(mesh)
    _check_size(options)
    camera = Camera.fit(used, options)
    placed = camera.place(vertices)
    colours = linear_colours(vertex_colors, options.color, len(vertices))
    scene = _scene(camera, camera.place(used), options)
    if cut is not None:
        # At 512 pixels the line is 1.5 pixels wide; in larger pictures it grows with them.
        scene |= _cut(camera, *cut, width=0.75 * options.supersample * max(1.0, options.size / 512))
    picture = shade_mesh(
        scene,
        ShadedMesh(placed, faces, colours, CREASE, *_incidence(placed, faces)),
        _ray_sets(),
        warp_device(device),
        surface_colours=None if surface_colors is None else partial(_linear_at, surface_colors, camera),
    )
    width = options.size * options.supersample
    return developed(picture.reshape(width, -1, 4), options.supersample, options.background)


def error_picture(
    mesh: trimesh.Trimesh,
    distances: np.ndarray | Field,
    options: PictureOptions = PictureOptions(),
    *,
    maximum: float | None = None,
    legend: bool = True,
    title: str = "distance",
    device: str = "auto",
) -> np.ndarray:
    """Picture of a mesh coloured by its distance to another surface.

    Args:
        distances: of the vertices (v,), or a function of points (n, 3) such as `MeshSDF.distance`, which is correct
            within large faces too. Mesh's frame.
        maximum: distance at the end of the colour scale; None: `nice_maximum` of the distances of the vertices, or of
            points on the faces. Set it for pictures that are to be compared.
        legend: append the colour bar on the right.
        title: of the colour bar.
        device: "auto", "cpu" or a CUDA device.
    Returns:
        (size, size, 3) uint8, wider with a legend; (.., 4) if the background is transparent.
    Raises:
        InputError: not one distance per vertex, or a maximum that is not positive.
    """
    _check_size(options)
    colours: dict[str, Any] = {}
    if callable(distances):
        known = distances(sample_surface(mesh, PROBES))
        top = render_colours.nice_maximum(known) if maximum is None else maximum
        colours["surface_colors"] = partial(_errors_at, field=distances, maximum=top)
    else:
        known = np.asarray(distances, np.float64)
        if known.shape != (len(mesh.vertices),):
            raise InputError(f"distances have shape {known.shape}; expected ({len(mesh.vertices)},), one per vertex")
        top = render_colours.nice_maximum(known) if maximum is None else maximum
        colours["vertex_colors"] = error_colours(known, top)
    picture = render_mesh(mesh, options, **colours, device=device)
    if not legend:
        return picture
    over = bool(np.nanmax(known, initial=0) > top)
    bar = render_colours.legend(top, height=options.size, title=title, over=over, background=options.background)
    return np.hstack([picture, bar])


def render_points(
    points: np.ndarray,
    options: PictureOptions = PictureOptions(),
    *,
    colors: np.ndarray | None = None,
    radius: float | None = None,
) -> np.ndarray:
    """Picture of points (n, 3) as small shaded balls.

    Args:
        colors: (n, 3) sRGB, uint8 or float in [0, 1]; replaces `options.color`.
        radius: of a ball, in the points' frame; None: chosen by the number of points.
    Returns:
        (size, size, 3) uint8, or (size, size, 4) if the background is transparent.
    Raises:
        InputError: no points, a point that is not finite, colours that do not match, or a picture that is too large.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"cannot draw points of shape {points.shape}; expected finite points (n, 3), n > 0")
    _check_size(options)
    camera = Camera.fit(points, options)
    colours = linear_colours(colors, options.color, len(points))
    placed = camera.place(points)
    # n points cover a sphere evenly if a ball's radius falls with the square root of n.
    ball = np.clip(1.2 * len(points) ** -0.5, 0.006, 0.025) if radius is None else radius / camera.radius
    width = options.size * options.supersample
    rays = (placed - camera.eye) @ camera.axes.T
    owner, depth, normal = splat(rays, float(ball), width, camera.pixel(width))
    key = np.maximum(normal @ (camera.axes @ camera.light(*KEY_LIGHT) * [1, 1, -1]), 0)
    sky = 0.5 + 0.5 * (normal @ (camera.axes[:, 1] * [1, 1, -1]))
    shown = np.zeros((width * width, 4), np.float32)
    if options.ground:
        shown[:, 3] = ground_shadow(placed, float(ball), camera, width).ravel()
    hit = owner >= 0
    lit = (0.5 * key + 0.3 * sky + 0.3) * eye_dome_lighting(depth, float(ball), options.supersample)[hit]
    shown[hit, :3] = encode(colours[owner[hit] if len(colours) > 1 else 0] * lit[:, None])
    shown[hit, 3] = 1
    return developed(shown.reshape(width, width, 4), options.supersample, options.background)


def _errors_at(points: np.ndarray, field: Field, maximum: float) -> np.ndarray:
    return error_colours(field(points), maximum)


def _check_size(options: PictureOptions) -> None:
    if options.size * options.supersample > LARGEST:
        raise InputError(
            f"a picture of {options.size} pixels with {options.supersample} rays per pixel along each axis is too "
            f"large; size × supersample must be at most {LARGEST}"
        )


def _checked(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (v, 3), faces (f, 3), and the vertices that belong to faces."""
    vertices, faces = np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int32)
    if len(faces) == 0:
        raise MeshError(f"cannot draw a mesh without faces; it has {len(vertices)} vertices")
    mask = np.zeros(len(vertices), bool)
    mask[faces] = True
    used = vertices[mask]
    if not np.isfinite(used).all():
        invalid = int((~np.isfinite(used)).any(axis=1).sum())
        raise MeshError(f"cannot draw a mesh with NaN or infinite vertices; {invalid} are not finite")
    return vertices, faces, used


def _scene(camera: Camera, placed: np.ndarray, options: PictureOptions) -> dict[str, Any]:
    """Fields of the kernels' `Scene`, except its mesh. `placed`: vertices that belong to faces, picture's frame."""
    low, high = placed.min(axis=0), placed.max(axis=0)
    centre = (low + high) / 2
    width = options.size * options.supersample
    right, above, forward = camera.axes.tolist()
    return {
        "centre": centre.tolist(),
        "radius": float(np.linalg.norm(placed - centre, axis=1).max()) * 1.0001 + 1e-6,
        "eye": camera.eye.tolist(),
        "right": right,
        "above": above,
        "forward": forward,
        "width": width,
        "supersample": options.supersample,
        "step": camera.pixel(width),
        "has_ground": int(options.ground),
        "ground": float(low[1]),
        "key": camera.light(*KEY_LIGHT).tolist(),
        "fill": camera.light(*FILL_LIGHT).tolist(),
    }


def _linear_at(colours: Callable[[np.ndarray], np.ndarray], camera: Camera, positions: np.ndarray) -> np.ndarray:
    """Linear colours (n, 3) at positions (n, 3) in the picture's frame. `colours` is a function of the mesh's frame."""
    points = camera.back(positions.astype(np.float64))
    return linear_colours(colours(points), CLAY, len(points))


def _cut(camera: Camera, axis: Axis, offset: float, width: float) -> dict[str, Any]:
    """Fields of the kernels' `Scene` for the line where a plane meets the surface."""
    if axis not in FRAMES:
        raise InputError(f"axis is {axis!r}; expected 'x', 'y' or 'z'")
    normal = camera.frame @ np.eye(3)["xyz".index(axis)]
    return {
        "has_cut": 1,
        "cut": normal.tolist(),
        "cut_width": width,
        "cut_at": (offset - float(normal @ camera.centre)) / camera.radius,
        "ink": [channel / 255 for channel in INK],
    }


def _incidence(placed: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, ...]:
    """Faces around each merged vertex: (merged vertex of each corner, where its faces start, the faces, disputed).

    Vertices at equal positions are merged, since many files store every face with its own vertices. A vertex is
    disputed if two of its faces traverse an edge in the same direction: one of them is wound the wrong way.
    """
    from trimesh.grouping import unique_rows

    _, merged = unique_rows(placed, digits=6)
    ring = np.asarray(merged)[faces]
    vertex = ring.ravel().astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(vertex))]).astype(np.int32)
    incident = (np.argsort(vertex, kind="stable") // 3).astype(np.int32)
    edges = np.sort((ring.astype(np.int64) * len(starts) + np.roll(ring, -1, axis=1)).ravel())
    twice = edges[1:][edges[1:] == edges[:-1]]
    disputed = np.zeros(len(starts) - 1, bool)
    disputed[twice // len(starts)] = disputed[twice % len(starts)] = True
    return vertex, starts, incident, disputed


def _ray_sets() -> tuple[np.ndarray, np.ndarray]:
    """Directions (256, k, 3) of sky rays, for a cosine-weighted hemisphere, and key rays, on the light's disc.

    Each set is well spread, and so is the union of the first n sets. The shifts are the R2 sequence of Roberts (2018):
    powers of 1 / 1.3247..., the root of x³ = x + 1; the turn is the golden ratio.
    """
    shift = np.arange(256)[:, None] * np.array([0.7548776662, 0.5698402910])

    def disc(count: int) -> tuple[np.ndarray, np.ndarray]:
        k = np.arange(count)
        square = (k + shift[:, :1] % 1) / count
        turn = 2 * np.pi * (k * 0.6180339887 + shift[:, 1:])
        return np.sqrt(square), turn

    r, turn = disc(SKY_RAYS)
    sky = np.stack([r * np.cos(turn), r * np.sin(turn), np.sqrt(1 - r * r)], axis=-1)
    r, turn = disc(KEY_RAYS)
    keys = KEY_SOFTNESS * np.stack([r * np.cos(turn), r * np.sin(turn), 0 * r], axis=-1)
    return sky.astype(np.float32), keys.astype(np.float32)
