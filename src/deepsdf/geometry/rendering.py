"""Pictures of meshes, point clouds and fields without OpenGL or a display.

Pictures are (height, width, 3) uint8 arrays. The camera is a long lens that looks at the middle of the
shape. At azimuth 0 and elevation 0 it sees the front (+z where y is up, -y where z is up) with +x to the
right; both angles are in degrees, and a positive azimuth walks to the camera's right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepsdf.errors import InputError, MeshError
from deepsdf.files import atomic_path
from deepsdf.geometry.render_camera import (
    FILL_LIGHT,
    FRAMES,
    KEY_LIGHT,
    Camera,
    Colour,
    encode,
    linear_colours,
    shrink,
)
from deepsdf.geometry.render_splat import open_to_the_eye, splat
from deepsdf.geometry.warp_runtime import get_warp, resolve_device

if TYPE_CHECKING:
    import trimesh

Axis = Literal["x", "y", "z"]

WHITE: Colour = (255, 255, 255)
CLAY: Colour = (164, 190, 216)
INK: Colour = (40, 44, 52)

PAPER, INSIDE, OUTSIDE = (np.array(rgb, float) for rgb in ((250, 249, 247), (88, 138, 194), (226, 140, 118)))

CREASE = float(np.cos(np.radians(38.0)))  # faces that meet at a larger angle keep a hard edge
SKY_RAYS, KEY_RAYS = 2, 1  # per pixel; the blur sees 64 times as many, on the ground 256
KEY_SOFTNESS = 0.16  # radius of the key light's disc at distance 1
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
    ground: bool = True,
    background: Colour = WHITE,
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
        ground: catch a soft shadow under the mesh; elsewhere the ground is the background.
        supersample: rays per pixel along each axis.
    Raises:
        MeshError: the mesh has no faces, or a vertex that is not finite.
    """
    vertices, faces, used = _checked(mesh)
    _check_size(size, supersample)
    camera = Camera.fit(used, azimuth, elevation, up, bound)
    placed = camera.place(vertices).astype(np.float32)
    colours = linear_colours(vertex_colors, color, len(vertices))
    warp, device = get_warp(), resolve_device(device)
    from deepsdf.geometry import render_kernels as kernels

    def upload(array: np.ndarray, dtype: Any = warp.vec3) -> Any:
        return warp.array(np.ascontiguousarray(array), dtype=dtype, device=device)

    def blank(dtype: Any, count: int = (size * supersample) ** 2) -> Any:
        return warp.empty(count, dtype=dtype, device=device)

    points, corners = upload(placed), upload(faces.ravel(), warp.int32)
    shape = warp.Mesh(points, corners)  # the scene holds its id only: keep it alive
    scene = _scene(kernels.Scene(), camera, camera.place(used), size * supersample, ground, background)
    scene.mesh = shape.id
    a, b, c = (camera.place(vertices)[faces[:, k]] for k in range(3))
    area = upload(np.cross(b - a, c - a).astype(np.float32))
    *rounds, disputed = _rounds(placed, faces)
    rounds = [*(upload(array, warp.int32) for array in rounds), upload(disputed, warp.bool)]
    normals, picture = blank(warp.vec3, faces.size), blank(warp.vec3)
    seen = [blank(kind) for kind in (warp.int32, warp.vec3, warp.vec3, warp.vec3, warp.vec2)]
    rays = [upload(directions) for directions in _ray_sets()]
    _launch(kernels.corner_normals, faces.size, [*rounds, area, CREASE, normals], device)
    surface = [points, corners, normals, upload(colours)]
    _launch(kernels.trace, len(picture), [scene, *surface, *rays, *seen], device)
    kind, position, normal, albedo, light = seen
    mean = warp.empty_like(light)
    _launch(kernels.gather, len(picture), [scene, kind, position, normal, light, mean], device)
    _launch(kernels.shade, len(picture), [scene, kind, position, normal, albedo, mean, picture], device)
    return shrink(picture.numpy().reshape(size * supersample, -1, 3), supersample)


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
    background: Colour = WHITE,
    supersample: int = 2,
) -> np.ndarray:
    """Picture of points (n, 3) as small shaded balls: (size, size, 3) uint8. Camera as in `render_mesh`.

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
    ball = np.clip(1.2 * len(points) ** -0.5, 0.006, 0.025) if radius is None else radius / camera.radius
    width = size * supersample
    rays = (camera.place(points) - camera.eye) @ camera.axes.T
    owner, depth, normal = splat(rays, float(ball), width, camera.pixel(width))
    key = np.maximum(normal @ (camera.axes @ camera.light(*KEY_LIGHT) * [1, 1, -1]), 0)
    sky = 0.5 + 0.5 * (normal @ (camera.axes[:, 1] * [1, 1, -1]))
    shown = np.tile(np.asarray(background, np.float32) / 255, (width * width, 1))
    hit = owner >= 0
    lit = (0.5 * key + 0.3 * sky + 0.3) * open_to_the_eye(depth, float(ball), supersample)[hit]
    shown[hit] = encode(colours[owner[hit] if len(colours) > 1 else 0] * lit[:, None])
    return shrink(shown.reshape(width, width, 3), supersample)


def slice_image(
    field: Callable[[np.ndarray], np.ndarray],
    *,
    axis: Axis = "z",
    offset: float = 0.0,
    bound: float = 1.0,
    size: int = 256,
    clamp: float = 0.1,
) -> np.ndarray:
    """The signed distance on the square [-bound, bound]^2 of a plane: (size, size, 3) uint8.

    Blue inside, red outside, a dark line at zero; colours saturate at +-`clamp`, thin lines lie `clamp` / 2
    apart. Seen from the plane's positive side: x to the right and y up for "z", z to the left and y up for
    "x", x to the right and z down for "y".
    """
    if axis not in FRAMES:
        raise InputError(f"axis={axis!r} is not an axis; say x, y or z")
    if not (bound > 0 and clamp > 0):
        raise InputError(f"bound={bound} and clamp={clamp} must be positive")
    _check_size(size, 1)
    step = 2 * bound / size
    line = ((np.arange(size) + 0.5) * step - bound).astype(np.float32)
    right, above = np.meshgrid(line, line[::-1])
    across = np.full_like(right, offset)
    planes = {"x": (across, above, -right), "y": (right, across, -above), "z": (right, above, across)}
    points = np.stack(planes[axis], axis=-1).reshape(-1, 3)
    sdf = np.asarray(field(points), dtype=np.float64).reshape(size, size)
    slope = np.hypot(*np.gradient(sdf))  # change of the distance over one pixel
    t = np.clip(sdf / clamp, -1, 1)[..., None]
    colour = PAPER + np.abs(t) ** 0.8 * (np.where(t < 0, INSIDE, OUTSIDE) - PAPER)
    spacing = clamp / 2
    thin = np.abs(sdf - np.round(sdf / spacing) * spacing)
    for distance, halfwidth, strength in ((thin, 0.4, 0.2), (np.abs(sdf), size / 220, 1.0)):
        # A field that is flat, such as a clamped one, has no lines there, not one wide line.
        away = distance / np.maximum(slope, 1e-9)
        ink = np.clip(halfwidth + 0.5 - away, 0, 1) * strength * (slope > 0.05 * step)
        colour += ink[..., None] * (np.array(INK) - colour)
    return np.round(colour).astype(np.uint8)


def grid_image(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    pad: int = 8,
    background: Colour = WHITE,
) -> np.ndarray:
    """Contact sheet of pictures (h, w, 3) uint8; None, or a row that ends early, leaves a hole.

    Columns are as wide, and rows as high, as their largest picture; `pad` pixels lie between and round them.
    Row labels stand on their side at the left. A label too long for its place is set smaller, then cut.
    """
    columns = max((len(row) for row in rows), default=0)
    if not any(cell is not None for row in rows for cell in row):
        raise InputError("a grid needs at least one picture")
    for name, labels, count in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise InputError(f"{len(labels)} {name} labels for {count} {name}s")
    heights, widths = np.zeros(len(rows), int), np.zeros(columns, int)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is not None:
                heights[r], widths[c] = max(heights[r], cell.shape[0]), max(widths[c], cell.shape[1])
    letter = int(np.clip(max(widths.max(), heights.max()) / 13, 10, 32))
    strip = letter + letter // 2  # the height of a label
    top = pad + (strip if column_labels else 0)
    left = pad + (strip if row_labels else 0)
    tops = top + np.cumsum([0, *(heights + pad)])
    lefts = left + np.cumsum([0, *(widths + pad)])
    sheet = np.empty((tops[-1], lefts[-1], 3), np.uint8)
    sheet[:] = background
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            if cell is not None:
                h, w = cell.shape[:2]
                y, x = tops[r] + (heights[r] - h) // 2, lefts[c] + (widths[c] - w) // 2
                sheet[y : y + h, x : x + w] = cell[..., :3]
    edge = slice(pad // 2, pad // 2 + strip)
    for c, text in enumerate(column_labels or ()):
        place = slice(lefts[c], lefts[c] + widths[c])
        sheet[edge, place] = _label(text, widths[c], letter, background)
    for r, text in enumerate(row_labels or ()):
        place = slice(tops[r], tops[r] + heights[r])
        sheet[place, edge] = np.rot90(_label(text, heights[r], letter, background))
    return sheet


def save_image(path: str | Path, array: np.ndarray) -> None:
    """Write a picture (h, w), (h, w, 3) or (h, w, 4) uint8 as PNG, whole or not at all; makes the folder."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are saved as PNG; end the name in .png")
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(f"{path}: a picture is (h, w, 3) uint8, not {array.shape} {array.dtype}")
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")


def _label(text: str, length: int, letter: int, background: Colour) -> np.ndarray:
    """One line of text in the middle of a strip (1.5 letters high, length, 3)."""
    image = Image.new("RGB", (int(length), letter + letter // 2), background)
    sizes = range(letter, min(letter, 9) - 1, -1)
    fonts = [ImageFont.load_default(size=size) for size in sizes]
    font = next((font for font in fonts if font.getlength(text) <= length), fonts[-1])
    while len(text) > 1 and font.getlength(text) > length:
        text = text[:-2] + "…"
    ink = INK if sum(background) > 380 else WHITE
    ImageDraw.Draw(image).text((length / 2, image.height / 2), text, fill=ink, font=font, anchor="mm")
    return np.asarray(image)


def _check_size(size: int, supersample: int) -> None:
    if size < 1 or supersample < 1:
        raise InputError(f"size={size} and supersample={supersample} must be at least 1")


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


def _scene(scene: Any, camera: Camera, placed: np.ndarray, width: int, ground: bool, background: Colour) -> Any:
    """Fill the kernels' `Scene`, all but its mesh. `placed`: the vertices that faces use, picture's frame."""
    low, high = placed.min(axis=0), placed.max(axis=0)
    centre = (low + high) / 2
    scene.centre = centre.tolist()
    scene.radius = float(np.linalg.norm(placed - centre, axis=1).max()) * 1.0001 + 1e-6
    scene.eye = camera.eye.tolist()
    scene.right, scene.above, scene.forward = camera.axes.tolist()
    scene.step, scene.width = camera.pixel(width), width
    scene.has_ground, scene.ground = int(ground), float(low[1])
    scene.key, scene.fill = camera.light(*KEY_LIGHT).tolist(), camera.light(*FILL_LIGHT).tolist()
    scene.background = [channel / 255 for channel in background]
    return scene


def _launch(kernel: Any, count: int, inputs: list[Any], device: str) -> None:
    """Run a kernel whose first argument is where it starts.

    A launch on Warp's CPU has one thread but leaves Python free: bands of pixels go to threads of our own.
    """
    warp = get_warp()
    band = BAND if device == "cpu" else count

    def run(first: int) -> None:
        warp.launch(kernel, dim=min(band, count - first), inputs=[first, *inputs], device=device)

    run(0)  # alone: it compiles the module, for which threads would race
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(run, range(band, count, band)))


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
