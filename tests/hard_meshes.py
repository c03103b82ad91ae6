"""Meshes with one difficulty each: real ones where they are on this machine, and always ones made here.

Real meshes are read from `../shared/data` beside the repository, or from the folder in DEEPSDF_TEST_DATA.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import corruptions
import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes

Mesh = trimesh.Trimesh
Segment = tuple[tuple[float, float, float], tuple[float, float, float], float]
"""A capsule: both ends of its axis, and its radius."""

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("DEEPSDF_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Real meshes; the folder need not exist."""

MESH_SUFFIXES = {".obj", ".ply", ".stl"}


def real_meshes(folder: str) -> list[Path]:
    """Mesh files in a folder of REAL, sorted; empty if it does not exist."""
    return sorted(path for path in (REAL / folder).glob("*") if path.suffix.lower() in MESH_SUFFIXES)


def parameters(paths: list[Path]) -> list[Any]:
    """Parameters for a test of each real mesh; where there are none, one that skips and says why."""
    if paths:
        return [pytest.param(path, id=path.stem) for path in paths]
    reason = f"no real meshes in {REAL} (DEEPSDF_TEST_DATA); generated ones are tested"
    return [pytest.param(REAL, id="none", marks=pytest.mark.skip(reason))]


# Clean, closed shapes


def capsules(*segments: Segment, blend: float, cells: int = 72) -> Mesh:
    """Closed surface of capsules whose union is rounded off within `blend` of their seams.

    Args:
        cells: grid cells along the longest side.
    """
    ends = np.array([[start, end] for start, end, _ in segments])
    radii = np.array([radius for _, _, radius in segments])
    low, high = ends.min(axis=(0, 1)) - radii.max() - blend, ends.max(axis=(0, 1)) + radii.max() + blend
    step = (high - low).max() / cells
    axes = [np.arange(a, b + 2 * step, step) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distances = []
    for (start, end), radius in zip(ends, radii, strict=True):
        axis = end - start
        along = ((points - start) @ axis / max(axis @ axis, 1e-12)).clip(0, 1)
        distances.append(np.linalg.norm(points - start - along[..., None] * axis, axis=-1) - radius)
    # The soft minimum -k log(sum(exp(-d / k))) is below the least distance by at most k log(number of capsules).
    field = -blend * np.log(np.exp(-np.array(distances) / blend).sum(axis=0))
    vertices, faces, _, _ = marching_cubes(field, 0.0, spacing=(step, step, step))
    mesh = trimesh.Trimesh(vertices + low, faces, process=True)
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def body() -> Mesh:
    """A standing figure: thin arms and legs, y up."""
    half: list[Segment] = []
    for side in (-1.0, 1.0):
        half += [
            ((0.1 * side, -0.05, 0), (0.14 * side, -0.85, 0), 0.06),  # leg
            ((0.14 * side, -0.88, 0), (0.15 * side, -0.88, 0.14), 0.04),  # foot
            ((0.17 * side, 0.5, 0), (0.42 * side, 0.1, 0), 0.045),  # upper arm
            ((0.42 * side, 0.1, 0), (0.5 * side, -0.2, 0.1), 0.035),  # lower arm
        ]
    return capsules(((0, 0, 0), (0, 0.45, 0), 0.15), ((0, 0.6, 0), (0, 0.8, 0.02), 0.1), *half, blend=0.02)


def cow() -> Mesh:
    """A thick trunk on short legs, with horns and a tail that are thin beside it."""
    legs: list[Segment] = [((x, -0.1, z), (x, -0.5, z), 0.07) for x in (-0.35, 0.35) for z in (-0.14, 0.14)]
    horns: list[Segment] = [((0.62, 0.42, z), (0.62, 0.58, 2 * z), 0.025) for z in (-0.08, 0.08)]
    trunk: Segment = ((-0.35, 0.05, 0), (0.3, 0.05, 0), 0.24)
    head: Segment = ((0.55, 0.3, 0), (0.75, 0.22, 0), 0.13)
    tail: Segment = ((-0.55, 0.15, 0), (-0.7, -0.3, 0), 0.02)
    return capsules(trunk, head, tail, *legs, *horns, blend=0.02)


def wingnut() -> Mesh:
    """A ring with a bore and two thin wings: sharp edges, genus one."""
    ring = trimesh.creation.annulus(0.15, 0.35, 0.4, sections=48)
    wings = [trimesh.creation.box((0.5, 0.08, 0.5)).apply_translation((0.5 * side, 0, 0.2)) for side in (-1, 1)]
    return corruptions.subdivided(trimesh.boolean.union([ring, *wings], engine="manifold"), 0.08)


CLEAN: dict[str, Callable[[], Mesh]] = {"body": body, "cow": cow, "wingnut": wingnut}
"""Closed shapes of the kinds of the real ones, to be spoiled by `corruptions`."""


# Shapes that are hard to sign


def without(mesh: Mesh, *gone: Callable[[np.ndarray], np.ndarray]) -> Mesh:
    """The faces whose middles satisfy none of the conditions."""
    middles = mesh.triangles_center
    keep = ~np.any([condition(middles) for condition in gone], axis=0)
    return corruptions.build(mesh.vertices, mesh.faces[keep])


def near(*center: float, radius: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: np.linalg.norm(points - center, axis=1) < radius


def sheet(corners: list[tuple[float, float, float]], pieces: int = 6) -> Mesh:
    """A flat quadrilateral of 2 * pieces² triangles; corners in order."""
    a, b, c, d = np.array(corners, float)
    u, v = (grid.ravel()[:, None] for grid in np.meshgrid(*[np.linspace(0, 1, pieces + 1)] * 2, indexing="ij"))
    vertices = (1 - u) * (1 - v) * a + u * (1 - v) * b + u * v * c + (1 - u) * v * d
    low = (np.arange(pieces)[:, None] * (pieces + 1) + np.arange(pieces)).ravel()
    quads = np.stack([low, low + pieces + 1, low + pieces + 2, low + 1], axis=1)
    return corruptions.build(vertices, np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]]))


def doubled_chair() -> Mesh:
    """Every face twice, once per direction, in random order without shared vertices."""
    rng = np.random.default_rng(0)
    return corruptions.soup(corruptions.doubled(chair(), rng), rng)


def chair() -> Mesh:
    parts = [trimesh.creation.box((1, 0.12, 1))]
    for x in (-0.43, 0.43):
        for z in (-0.43, 0.43):
            parts.append(trimesh.creation.box((0.12, 0.9, 0.12)).apply_translation((x, -0.45, z)))
    parts.append(trimesh.creation.box((1, 1, 0.12)).apply_translation((0, 0.5, -0.43)))
    return corruptions.subdivided(trimesh.boolean.union(parts, engine="manifold"), 0.12)


def self_intersecting() -> Mesh:
    """Closed parts that cross each other."""
    ball = trimesh.creation.icosphere(3, radius=0.5)
    return corruptions.join(ball, corruptions.subdivided(trimesh.creation.box((1.6, 0.2, 0.2)), 0.15))


def inconsistent_winding() -> Mesh:
    return corruptions.flipped(body(), np.random.default_rng(0))


def degenerate_faces() -> Mesh:
    """40 faces with a repeated corner, and 5 faces given twice."""
    mesh = cow()
    a, b, _ = mesh.faces[:40].T
    return corruptions.build(mesh.vertices, np.concatenate([mesh.faces, np.stack([a, b, b], 1), mesh.faces[:5]]))


def nested_parts() -> Mesh:
    """A closed box inside a closed box, and one inside that, wound alike."""
    return corruptions.join(*(trimesh.creation.box((size, size, size)).subdivide() for size in (1.0, 0.6, 0.2)))


def trunk() -> Mesh:
    return capsules(((-0.6, 0, 0), (0.5, 0, 0), 0.25), blend=0.02)


def thin_fins() -> Mesh:
    """A closed fish: fins that are a fiftieth of its length thick."""
    fins = [corruptions.subdivided(trimesh.creation.box((0.4, 0.4, 0.02)), 0.1) for _ in range(2)]
    parts = [fin.apply_translation((x, 0.35, 0)) for fin, x in zip(fins, (-0.6, 0.2), strict=True)]
    return trimesh.boolean.union([trunk(), *parts], engine="manifold")


def open_fins() -> Mesh:
    """The same trunk, cut open below, with fins that are open sheets."""
    fins = [sheet([(x, 0.2, 0), (x + 0.4, 0.2, 0), (x + 0.3, 0.6, 0), (x - 0.1, 0.6, 0)]) for x in (-0.6, 0.1)]
    return corruptions.join(without(trunk(), lambda points: points[:, 1] < -0.12), *fins)


def house_without_floor() -> Mesh:
    """A room without its floor and two windows."""

    def window(points: np.ndarray) -> np.ndarray:
        x, y, z = np.abs(points).T
        return (x < 0.2) & (y < 0.15) & (z > 0.49)

    room = corruptions.subdivided(trimesh.creation.box((1, 0.8, 1)), 0.06)
    return without(room, window, lambda points: points[:, 1] < -0.399)


def ball_with_holes() -> Mesh:
    """Twelve round holes, together a sixteenth of the surface."""
    ball = trimesh.creation.icosphere(5, radius=0.5)
    centers = trimesh.creation.icosahedron().vertices
    centers = 0.5 * centers / np.linalg.norm(centers, axis=1, keepdims=True)
    return without(ball, *(near(*center, radius=0.07) for center in centers))


def box_with_a_sheet() -> Mesh:
    """A closed box on a small open sheet: not closed, and not doubtful."""
    box = corruptions.subdivided(trimesh.creation.box((1, 0.6, 0.6)), 0.05)
    return corruptions.join(box, sheet([(0.6, -0.1, -0.1), (0.7, -0.1, -0.1), (0.7, 0.1, 0.1), (0.6, 0.1, 0.1)], 2))


def overlapping_pages() -> Mesh:
    """Plates that overlap, each open on one side."""
    pages = []
    for shift in 0.02 * np.arange(8):
        page = corruptions.subdivided(trimesh.creation.box((0.7, 0.03, 1)), 0.1)
        page = without(page, lambda points: points[:, 0] < -0.349)
        pages.append(page.apply_translation((shift, shift, 0)))
    return corruptions.join(*pages)


def random_soup() -> Mesh:
    """200 triangles that bound nothing."""
    rng = np.random.default_rng(0)
    corners = (rng.uniform(-0.5, 0.5, (200, 1, 3)) + rng.normal(0, 0.3, (200, 3, 3))).reshape(-1, 3)
    return corruptions.build(corners, np.arange(len(corners)).reshape(-1, 3))


def flat_sheet() -> Mesh:
    return sheet([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)])


def negative_indices() -> str:
    """An .obj whose faces count vertices from the last one, as the format permits."""
    mesh = wingnut()
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices]
    lines += ["f {} {} {}".format(*face) for face in mesh.faces - len(mesh.vertices)]
    return "\n".join(lines) + "\n"


def no_faces() -> str:
    """A point cloud in a mesh file."""
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    return header + "element face 0\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n"


class Hard(NamedTuple):
    """A dirty mesh, and the verdict of a person who looks at it.

    Attributes:
        make: the mesh, or the content of a text file.
        verdict: as in preprocess.csv; for "rejected", `reason` is part of the error.
        closed: the given faces bound a solid.
        reason: part of the reason.
    """

    make: Callable[[], Mesh | str]
    verdict: str
    closed: bool = True
    reason: str = ""
    suffix: str = ".ply"

    def write(self, path: Path) -> Path:
        """Write the mesh file PATH + suffix; returns its path."""
        path = path.with_suffix(self.suffix)
        made = self.make()
        if isinstance(made, str):
            path.write_text(made)
        else:
            made.export(path)
        return path


HARD = {
    "body": Hard(body, "ok"),
    "cow": Hard(cow, "ok"),
    "wingnut": Hard(wingnut, "ok"),
    "doubled_chair": Hard(doubled_chair, "ok"),
    "self_intersecting": Hard(self_intersecting, "ok"),
    "inconsistent_winding": Hard(inconsistent_winding, "ok"),
    "degenerate_faces": Hard(degenerate_faces, "ok"),
    "nested_parts": Hard(nested_parts, "ok"),
    "thin_fins": Hard(thin_fins, "ok"),
    "negative_indices": Hard(negative_indices, "ok", suffix=".obj"),
    "box_with_a_sheet": Hard(box_with_a_sheet, "ok", closed=False),
    "open_fins": Hard(open_fins, "doubtful", False, "1 holes are too large to close"),
    "house_without_floor": Hard(
        house_without_floor, "doubtful", False, "24% of the surface is caps that close 3 holes"
    ),
    "ball_with_holes": Hard(ball_with_holes, "doubtful", False, "6% of the surface is caps that close 12 holes"),
    "overlapping_pages": Hard(overlapping_pages, "doubtful", False, "of the samples are uncertain"),
    "random_soup": Hard(random_soup, "rejected", reason="the sign is arbitrary for"),
    "flat_sheet": Hard(flat_sheet, "rejected", reason="the faces form open surfaces with no interior"),
    "no_faces": Hard(no_faces, "rejected", reason="has no faces; a surface is needed, not a point cloud"),
}
