"""Pictures of one shape for a report, and its meshes for the 3D view."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import trimesh
from PIL import Image
from scipy.spatial import KDTree

from deepsdf.errors import DeepSDFError
from deepsdf.figures.pictures import FRAME
from deepsdf.figures.report.packing import Packed, for_view, pack
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.kernels.launch import limited_threads
from deepsdf.library.scores import missing_reconstruction
from deepsdf.library.truth import true_shape
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.render import error_picture, render_mesh, render_points
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource, Experiment

FEWEST_FACES = 300
"""Faces below which meshes are not shown: fewer do not look like the shape."""

POINTS_SHOWN = 8_000
"""Surface samples shown if the true mesh is missing: closed to the eye at 320 pixels."""

_SIZES = (1.0, 0.7, 0.5, 0.35)  # factors tried to fit pictures into half the budget; each halves the pixels
_QUALITY = 80  # of WebP; Pillow's default


@dataclass(frozen=True)
class Drawing:
    """How shapes are drawn.

    Attributes:
        epoch: of the reconstructions.
        size: pixels per side of a picture.
        faces: approximate number of faces of each mesh, at most; 0: no meshes.
        error_max: end of the error scale, unit frame.
        budget: characters of base64 for the pictures and meshes of one shape, at most.
    """

    epoch: int
    size: int
    faces: int
    error_max: float
    budget: int


@dataclass(frozen=True)
class Drawn:
    """Pictures and meshes of one shape. What cannot be drawn is missing, and `notes` say why.

    Attributes:
        pictures: WebP files: "truth", "reconstruction", "error".
        meshes: "truth" and "reconstruction", unit frame; their values are distances to the other mesh.
        faces: number of faces of the original meshes.
        notes: what is missing or replaced, and why.
        complete: truth and reconstruction could be read.
    """

    pictures: Mapping[str, bytes] = field(default_factory=dict)
    meshes: Mapping[str, Packed] = field(default_factory=dict)
    faces: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class _Side:
    """A surface of the unit frame: a mesh, or only points (n, 3) of it.

    Attributes:
        distance: maps points (n, 3) to their distances (n,) to the surface.
        nearest: maps points (n, 3) to the nearest points (n, 3) of the surface.
    """

    distance: Callable[[np.ndarray], np.ndarray]
    nearest: Callable[[np.ndarray], np.ndarray]
    mesh: trimesh.Trimesh | None = None
    points: np.ndarray | None = None

    @classmethod
    def of_mesh(cls, surface: MeshSDF) -> _Side:
        return cls(surface.distance, lambda points: surface.closest(points)[0], mesh=surface.mesh)

    @classmethod
    def of_points(cls, points: np.ndarray) -> _Side:
        tree = KDTree(points)
        return cls(
            lambda at: tree.query(at)[0],
            lambda at: points[tree.query(at)[1]],
            points=points[:: -(-len(points) // POINTS_SHOWN)],
        )


def draw(experiment: Experiment, data: DataSource, shape: ShapeName, drawing: Drawing) -> Drawn:
    """Pictures and meshes of one shape, from the files that exist and can be read."""
    with limited_threads(1):  # the workers share the cores
        truth, notes = _truth(data, shape)
        complete = truth is not None
        reconstruction = None
        reason = missing_reconstruction(experiment, drawing.epoch, shape)
        if reason is None:
            try:
                mesh = load_mesh(experiment.reconstructed_mesh_path(drawing.epoch, shape))
                reconstruction = _Side.of_mesh(MeshSDF(mesh, sign="winding", device="cpu"))  # all faces, as stored
            except DeepSDFError as error:
                reason = f"the reconstruction cannot be drawn: {error}"
        if reason is not None:
            complete, notes = False, [*notes, reason]
        pictures = _fitting(_pictures(truth, reconstruction, drawing), drawing.budget)
        room = drawing.budget - sum(_as_text(len(content)) for content in pictures.values())
        sides = {"truth": truth, "reconstruction": reconstruction}
        meshes = _meshes({name: side for name, side in sides.items() if side}, drawing.faces, room)
        if drawing.faces and (truth or reconstruction) and not meshes:
            notes.append("no 3D view: the size limit of the report leaves no room for it")
        own = {name: len(side.mesh.faces) for name, side in sides.items() if side and side.mesh is not None}
    return Drawn(pictures, meshes, own, tuple(notes), complete)


def _truth(data: DataSource, shape: ShapeName) -> tuple[_Side | None, list[str]]:
    """The reference of `evaluate`, and notes if it is not the mesh."""
    try:
        normalization = data.load_normalization(shape)
        samples = normalization.apply(data.load_surface(shape))
    except DeepSDFError as error:
        return None, [f"the truth cannot be drawn: {error}"]
    try:
        return _Side.of_mesh(true_shape(data, shape, samples=samples).surface), []
    except DeepSDFError as error:
        return _Side.of_points(samples), [f"surface samples are shown in place of the true mesh: {error}"]


def _pictures(truth: _Side | None, reconstruction: _Side | None, drawing: Drawing) -> dict[str, Image.Image]:
    found = {name: side for name, side in (("truth", truth), ("reconstruction", reconstruction)) if side}
    drawn = {name: _picture(side, drawing.size) for name, side in found.items()}
    if truth and reconstruction and reconstruction.mesh is not None:
        drawn["error"] = error_picture(
            reconstruction.mesh,
            truth.distance,
            PictureOptions(size=drawing.size, bound=FRAME),
            maximum=drawing.error_max,
            legend=False,
            device="cpu",
        )
    return {name: Image.fromarray(picture) for name, picture in drawn.items()}


def _picture(side: _Side, size: int) -> np.ndarray:
    picture = PictureOptions(size=size, bound=FRAME)
    if side.mesh is not None:
        return render_mesh(side.mesh, picture, device="cpu")
    assert side.points is not None
    return render_points(side.points, picture)


def _fitting(pictures: Mapping[str, Image.Image], budget: int) -> dict[str, bytes]:
    """Pictures as WebP files that take at most half the budget: in full size, smaller, or none."""
    for scale in _SIZES:
        files = {name: webp(picture, scale) for name, picture in pictures.items()}
        if sum(_as_text(len(content)) for content in files.values()) <= budget // 2:
            return files
    return {}


def webp(picture: Image.Image, scale: float = 1.0) -> bytes:
    """A picture as a WebP file, scaled by a factor."""
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    file = io.BytesIO()
    picture.resize((size[0], size[1])).save(file, "WEBP", quality=_QUALITY, method=4)
    return file.getvalue()


def _meshes(sides: Mapping[str, _Side], faces: int, room: int) -> dict[str, Packed]:
    """Meshes with the most faces that fit into `room` characters; none if these are fewer than `FEWEST_FACES`."""
    while sides and faces >= FEWEST_FACES:
        packed = {name: _packed(side, [other for other in sides.values() if other is not side], faces)
                  for name, side in sides.items()}  # fmt: skip
        size = sum(_as_text(len(mesh.content)) for mesh in packed.values())
        if size <= room:
            return packed
        faces = int(faces * min(0.9, 0.95 * room / size))
    return {}


def _packed(side: _Side, others: list[_Side], faces: int) -> Packed:
    """A side for the 3D view, with its distances to the other side, if there is one."""
    none = np.zeros((0, 3), np.int64)
    if side.mesh is not None:
        vertices, triangles = for_view(side.mesh, faces)
    else:
        assert side.points is not None
        vertices, triangles = side.points[:: -(-2 * len(side.points) // faces)], none
    if not others:
        return pack(vertices, triangles)
    # Measured from the nearest point of the full surface: collapsing edges moves vertices off it, by more than the
    # error of a good reconstruction.
    return pack(vertices, triangles, others[0].distance(side.nearest(vertices)).astype(np.float64))


def _as_text(size: int) -> int:
    """Length of `size` bytes as base64."""
    return 4 * -(-size // 3)
