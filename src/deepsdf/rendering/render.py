"""Pictures of meshes, point clouds and fields without OpenGL or a display.

Pictures are (height, width, 3) uint8 arrays. The camera is a long lens that looks at the middle of the
shape. At azimuth 0 and elevation 0 it sees the front (+z where y is up, -y where z is up) with +x to the
right; both angles are in degrees, and a positive azimuth walks to the camera's right.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from deepsdf.errors import InputError, MeshError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.sampling import sample_surface
from deepsdf.kernels.launch import cpu_threads
from deepsdf.kernels.launch import kernels as compiled
from deepsdf.kernels.runtime import get_warp, resolve_device
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
    developed,
    encode,
    linear_colours,
)
from deepsdf.rendering.colours import error_colours, legend, parse_colour, slice_image
from deepsdf.rendering.film import save_film
from deepsdf.rendering.sheet import grid_image, save_image
from deepsdf.rendering.splat import ground_shadow, open_to_the_eye, splat

if TYPE_CHECKING:
    import trimesh

__all__ = [
    "CLAY",
    "INK",
    "PROBES",
    "WHITE",
    "Axis",
    "Colour",
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

CREASE = float(np.cos(np.radians(38.0)))  # faces that meet at a larger angle keep a hard edge
SKY_RAYS, KEY_RAYS = 3, 1  # per pixel; the blur sees 64 times as many, on the ground 256
KEY_SOFTNESS = 0.16  # radius of the key light's disc at distance 1
PROBES = 10_000
"""Points of a surface that tell how far its errors go."""

LARGEST = 16_384  # rays along a side: 20 GB
SURFACE = 1  # the kernels' kind of a pixel that sees the mesh
BAND = 16384  # pixels per CPU launch: small enough to balance threads


def render_mesh(
    mesh: trimesh.Trimesh,
    *,
    size: int = 512,
    azimuth: float = 35.0,
    elevation: float = 20.0,
    color: Colour = CLAY,
    up: Axis = "y",
    bound: float | None = None,
    vertex_colors: np.ndarray | None = None,
    surface_colors: Callable[[np.ndarray], np.ndarray] | None = None,
    cut: tuple[Axis, float] | None = None,
    ground: bool = True,
    background: Colour | None = WHITE,
    supersample: int = 2,
    device: str = "auto",
) -> np.ndarray:
    """Picture of a mesh, softly lit: (size, size, 3) uint8. The faces' orientation does not matter.

    Args:
        azimuth, elevation: of the camera, degrees.
        color: of the surface, sRGB.
        bound: radius of the framed sphere round the origin, so that pictures share a
            scale; None fits the mesh.
        vertex_colors: (v, 3) sRGB, uint8 or float in [0, 1]; replaces `color`.
        surface_colors: points (n, 3) of the surface, mesh's frame -> their colours, as above; for colours that
            change within a face.
        cut: a plane ("z", 0.1), mesh's frame; a dark line is drawn where it meets the surface.
        ground: catch a soft shadow under the mesh; elsewhere the ground is the background.
        background: None leaves it transparent: the picture is (size, size, 4) then.
        supersample: rays per pixel along each axis.
    Raises:
        MeshError: the mesh has no faces, or a vertex that is not finite.
    """
    vertices, faces, used = _checked(mesh)
    _check_size(size, supersample)
    camera = Camera.fit(used, azimuth, elevation, up, bound)
    placed = camera.place(vertices)
    colours = linear_colours(vertex_colors, color, len(vertices))
    warp, device = get_warp(), resolve_device(device)
    kernels = compiled(device, "render_kernels")

    def upload(array: np.ndarray, dtype: Any = warp.vec3) -> Any:
        kind = np.float32 if dtype is warp.vec3 else None
        return warp.array(np.ascontiguousarray(array, kind), dtype=dtype, device=device)

    def blank(dtype: Any, count: int = (size * supersample) ** 2) -> Any:
        return warp.empty(count, dtype=dtype, device=device)

    points, corners = upload(placed), upload(faces.ravel(), warp.int32)
    shape = warp.Mesh(points, corners)  # the scene holds its id only: keep it alive
    scene = _scene(kernels.Scene(), camera, camera.place(used), size, supersample, ground)
    scene.mesh = shape.id
    if cut is not None:
        _cut(scene, camera, *cut, width=0.75 * supersample * max(1.0, size / 512))
    a, b, c = placed[faces[:, 0]], placed[faces[:, 1]], placed[faces[:, 2]]
    area = upload(np.cross(b - a, c - a))
    *rounds, disputed = _rounds(placed, faces)
    rounds = [*(upload(array, warp.int32) for array in rounds), upload(disputed, warp.bool)]
    normals, picture = blank(warp.vec3, faces.size), blank(warp.vec4)
    seen = [blank(kind) for kind in (warp.int32, warp.vec3, warp.vec3, warp.vec3, warp.vec2)]
    rays = [upload(directions) for directions in _ray_sets()]
    _launch(kernels.corner_normals, faces.size, [*rounds, area, CREASE, normals], device)
    surface = [points, corners, normals, upload(colours)]
    _launch(kernels.trace, len(picture), [scene, *surface, *rays, *seen], device)
    kind, position, normal, albedo, light = seen
    if surface_colors is not None:
        _paint(surface_colors, kind, position, albedo, camera)
    mean = warp.empty_like(light)
    _launch(kernels.gather, len(picture), [scene, kind, position, normal, light, mean], device)
    _launch(kernels.shade, len(picture), [scene, kind, position, normal, albedo, mean, picture], device)
    return developed(picture.numpy().reshape(size * supersample, -1, 4), supersample, background)


def error_picture(
    mesh: trimesh.Trimesh,
    distances: np.ndarray | Field,
    *,
    size: int = 512,
    maximum: float | None = None,
    legend: bool = True,
    title: str = "distance",
    **view: Any,
) -> np.ndarray:
    """Picture of a mesh coloured by its distance to another surface: (size, size, 3) uint8.

    Args:
        distances: of the vertices (v,); or points (n, 3) -> distances (n,), as `MeshSDF.distance`, which is right
            within large faces too. Mesh's frame.
        maximum: the distance of the last colour, mesh's lengths; None: `nice_maximum` of the vertices' distances, or
            of points on the faces. Give one to pictures that are to be compared.
        legend: put the colour bar at the right; the picture is wider then.
        view: as in `render_mesh`.
    Raises:
        InputError: not one distance a vertex, or a maximum that is not positive.
    """
    _check_size(size, 1)
    if callable(distances):
        field, known = distances, distances(sample_surface(mesh, PROBES))
        view["surface_colors"] = lambda points: error_colours(field(points), top)
    else:
        known = np.asarray(distances, np.float64)
        if known.shape != (len(mesh.vertices),):
            raise InputError(f"distances {known.shape} do not match: give ({len(mesh.vertices)},), one a vertex")
    top = render_colours.nice_maximum(known) if maximum is None else maximum
    if not callable(distances):
        view["vertex_colors"] = error_colours(known, top)
    picture = render_mesh(mesh, size=size, **view)
    if not legend:
        return picture
    over = bool(np.nanmax(known, initial=0) > top)
    background = view.get("background", WHITE)
    bar = render_colours.legend(top, height=size, title=title, over=over, background=background)
    return np.hstack([picture, bar])


def render_points(
    points: np.ndarray,
    *,
    colors: np.ndarray | None = None,
    color: Colour = CLAY,
    radius: float | None = None,
    size: int = 512,
    azimuth: float = 35.0,
    elevation: float = 20.0,
    up: Axis = "y",
    bound: float | None = None,
    ground: bool = True,
    background: Colour | None = WHITE,
    supersample: int = 2,
) -> np.ndarray:
    """Picture of points (n, 3) as small shaded balls: (size, size, 3) uint8. View as in `render_mesh`.

    Args:
        colors: (n, 3) sRGB, uint8 or float in [0, 1]; replaces `color`.
        radius: of a ball, in the points' frame; None chooses by the number of points.
    Raises:
        InputError: no points, a point that is not finite, or colours that do not match.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(f"points {points.shape} cannot be drawn; give finite points (n, 3), n > 0")
    _check_size(size, supersample)
    camera = Camera.fit(points, azimuth, elevation, up, bound)
    colours = linear_colours(colors, color, len(points))
    placed = camera.place(points)
    ball = np.clip(1.2 * len(points) ** -0.5, 0.006, 0.025) if radius is None else radius / camera.radius
    width = size * supersample
    rays = (placed - camera.eye) @ camera.axes.T
    owner, depth, normal = splat(rays, float(ball), width, camera.pixel(width))
    key = np.maximum(normal @ (camera.axes @ camera.light(*KEY_LIGHT) * [1, 1, -1]), 0)
    sky = 0.5 + 0.5 * (normal @ (camera.axes[:, 1] * [1, 1, -1]))
    shown = np.zeros((width * width, 4), np.float32)
    if ground:
        shown[:, 3] = ground_shadow(placed, float(ball), camera, width).ravel()
    hit = owner >= 0
    lit = (0.5 * key + 0.3 * sky + 0.3) * open_to_the_eye(depth, float(ball), supersample)[hit]
    shown[hit, :3] = encode(colours[owner[hit] if len(colours) > 1 else 0] * lit[:, None])
    shown[hit, 3] = 1
    return developed(shown.reshape(width, width, 4), supersample, background)


def _check_size(size: int, supersample: int) -> None:
    if size < 1 or supersample < 1 or size * supersample > LARGEST:
        raise InputError(f"{size=} and {supersample=} must be at least 1, and their product at most {LARGEST}")


def _checked(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(vertices, faces, the vertices that faces use)."""
    vertices, faces = np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int32)
    if len(faces) == 0:
        raise MeshError(f"nothing to draw: the mesh has {len(vertices)} vertices and no faces")
    mask = np.zeros(len(vertices), bool)
    mask[faces] = True
    used = vertices[mask]
    if not np.isfinite(used).all():
        raise MeshError(f"cannot draw: {int((~np.isfinite(used)).any(axis=1).sum())} vertices are not finite")
    return vertices, faces, used


def _scene(scene: Any, camera: Camera, placed: np.ndarray, size: int, supersample: int, ground: bool) -> Any:
    """Fill the kernels' `Scene`, all but its mesh. `placed`: the vertices that faces use, picture's frame."""
    low, high = placed.min(axis=0), placed.max(axis=0)
    centre = (low + high) / 2
    scene.centre = centre.tolist()
    scene.radius = float(np.linalg.norm(placed - centre, axis=1).max()) * 1.0001 + 1e-6
    scene.eye = camera.eye.tolist()
    scene.right, scene.above, scene.forward = camera.axes.tolist()
    scene.width, scene.supersample = size * supersample, supersample
    scene.step = camera.pixel(scene.width)
    scene.has_ground, scene.ground = int(ground), float(low[1])
    scene.key, scene.fill = camera.light(*KEY_LIGHT).tolist(), camera.light(*FILL_LIGHT).tolist()
    return scene


def _paint(colours: Callable[[np.ndarray], np.ndarray], kind: Any, position: Any, albedo: Any, camera: Camera) -> None:
    """Give every pixel of the surface the colour of the point that it sees."""
    seen = np.flatnonzero(kind.numpy() == SURFACE)
    if len(seen):
        points = camera.back(position.numpy()[seen].astype(np.float64))
        painted = albedo.numpy()
        painted[seen] = linear_colours(colours(points), CLAY, len(points))
        albedo.assign(painted)


def _cut(scene: Any, camera: Camera, axis: Axis, offset: float, width: float) -> None:
    if axis not in FRAMES:
        raise InputError(f"axis={axis!r} is not an axis; say x, y or z")
    normal = camera.frame @ np.eye(3)["xyz".index(axis)]
    scene.has_cut, scene.cut, scene.cut_width = 1, normal.tolist(), width
    scene.cut_at = (offset - float(normal @ camera.centre)) / camera.radius
    scene.ink = [channel / 255 for channel in INK]


def _launch(kernel: Any, count: int, inputs: list[Any], device: str) -> None:
    """Run a kernel whose first argument is where it starts.

    A launch on Warp's CPU has one thread but leaves Python free: bands of pixels go to threads of our own.
    """
    warp = get_warp()
    band = BAND if device == "cpu" else count

    def run(first: int) -> None:
        warp.launch(kernel, dim=min(band, count - first), inputs=[first, *inputs], device=device)

    with ThreadPoolExecutor(cpu_threads()) as pool:
        list(pool.map(run, range(0, count, band)))


def _rounds(placed: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which faces meet where: (merged vertex of each corner, where its faces start, the faces, disputed).

    Merging is for normals only: files often store every face with vertices of its own. A vertex is disputed
    when two of its faces run along an edge in the same direction, so that one of them is the wrong way round.
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
    """Directions (256, k, 3) of sky and key rays: each set is spread well, the first n together too."""
    shift = np.arange(256)[:, None] * np.array([0.7548776662, 0.5698402910])  # the R2 sequence

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
