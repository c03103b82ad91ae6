"""Repair a mesh so that inside and outside are defined.

The steps: merge vertices and drop duplicate faces; weld cracks; wind neighbouring faces alike; turn every patch outward
(closed ones by their signed volume, open ones by the side that is visible from outside); leave out what is buried; cap
small holes. Outside is what can be seen from outside: nested and overlapping parts form their union, without cavities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from deepsdf.geometry.meshes import clean_mesh
from deepsdf.geometry.repair.buried import buried_faces, buried_regions, crossing_faces, is_inside
from deepsdf.geometry.repair.cavities import cavity_patches
from deepsdf.geometry.repair.cracks import weld_cracks
from deepsdf.geometry.repair.holes import cap_holes
from deepsdf.geometry.repair.patches import boundary_of, orient_patches, signed_volumes
from deepsdf.geometry.repair.visibility import patch_visibility

# How an open patch is classified, by the visibility of its less visible side over that of the other:
#
#     0            0.3                0.6            1
#     |--- part ----|---- doubtful ----|--- sheet ---|
#
# The open shell of a solid is visible from one side, a sheet (leaf, curtain) equally from both. A doubtful patch may be
# an inner wall seen through a window; it is part of the solid's boundary unless the solid made of the other patches
# contains it.
_SHEET_RATIO = 0.6
_PART_RATIO = 0.3

_INVISIBLE = 0.002
"""Share of rays (of at least 256 per side) below which a side counts as invisible."""


@dataclass(frozen=True, eq=False)
class OrientedMesh:
    """A repaired mesh in its working frame: `mesh frame = vertices / scale + center`.

    Three sets of faces, all wound outward:

    - `faces` are the outer surface, to which distances are measured (open sheets: either winding);
    - `solid_faces` bound the solid; the winding number around them defines inside;
    - `shell_faces` are the visible part of those: the outer surface without sheets, and the caps on its holes.
    """

    vertices: np.ndarray
    """(v, 3) float32, of about unit size, centred."""
    faces: np.ndarray
    """(f, 3) int32."""
    source_faces: np.ndarray
    """(f,) rows of the given mesh's faces."""
    loose: np.ndarray
    """(f,) bool: part of an open sheet."""
    solid_faces: np.ndarray
    """(s, 3) int32."""
    shell_faces: np.ndarray
    """(t, 3) int32; the first `shell_own` are the mesh's, the others caps."""
    shell_own: int
    shell_crossing: np.ndarray
    """(t,) bool: passes through another face."""
    crossing: np.ndarray
    """(f,) bool: passes through another face, so a part of it may lie inside."""
    center: np.ndarray
    scale: float
    closed: bool
    """The given mesh bounds a solid without any hole."""
    sealed: bool
    """`solid_faces` have no boundary, so their winding number is an integer everywhere."""
    degenerate: int
    """Faces without area, removed."""
    doubled: int
    """Duplicate faces, removed."""
    flipped: int
    """Faces wound the other way than stored."""
    buried: int
    """Faces inside the solid, left out of `faces`."""
    sheets: int
    """Faces of open patches that enclose nothing."""
    holes: int
    """Boundary loops, capped or not."""
    capped: int
    """Boundary loops closed by a cap."""

    @property
    def dropped(self) -> int:
        """Faces of the given mesh that are not part of the outer surface."""
        return self.degenerate + self.doubled + self.buried


def working_frame(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Center (3,) and scale that bring vertices to an extent of 1 to 2.

    The scale is a power of two, so that scaling is exact and cannot move a vertex relative to others.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (low + high) / 2, float(2.0 ** -np.ceil(np.log2((high - low).max() / 2)))


def orient_mesh(
    mesh: trimesh.Trimesh, *, keep_cavities: bool = False, device: str = "cpu", seed: int = 0
) -> OrientedMesh:
    """Repair a mesh, in any frame, so that its inside is defined where it can be.

    Args:
        keep_cavities: closed shells inside others stay hollow if the file winds them the other way; otherwise they are
            filled.
        device: Warp's name of the device for ray queries.
        seed: for the random points from which visibility is judged.
    Raises:
        MeshError: no face has an area.
    """
    clean = clean_mesh(mesh)
    source, stored = clean.source_faces, np.asarray(clean.mesh.faces, np.int64)
    center, scale = working_frame(clean.mesh.vertices)
    vertices = (clean.mesh.vertices - center) * scale
    faces, kept = weld_cracks(vertices, stored)
    source = source[kept]
    # `flip` collects which faces are turned relative to the file.
    flip, patch, number = orient_patches(faces)
    volumes = signed_volumes(vertices, _flipped(faces, flip), patch, number)
    open_patches = np.unique(boundary_of(_flipped(faces, flip), patch)[:, 2])
    is_open = np.isin(np.arange(number), open_patches)
    # The volume of a closed patch is positive if it is wound outward; that of an open one depends on where it is cut.
    turn = ~is_open & (volumes < 0)
    sheet = buried = np.zeros(number, bool)
    if is_open.any():
        outward = _flipped(faces, flip ^ turn[patch])
        turn_open, sheet, buried = _classify_open(vertices, outward, patch, is_open, device, seed)
        turn = turn ^ turn_open
    if keep_cavities:
        flipped = flip ^ turn[patch]
        turn ^= cavity_patches(vertices, _flipped(faces, flipped), patch, ~is_open, flipped)
    flip ^= turn[patch]
    return _assemble(
        vertices, _flipped(faces, flip), patch, sheet, buried, source, device,
        {
            "center": center, "scale": scale, "degenerate": clean.degenerate,
            "doubled": clean.doubled + len(stored) - len(kept), "flipped": int(flip.sum()),
        },
    )  # fmt: skip


def _flipped(faces: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Faces (f, 3) with those of `flip` (f,) wound the other way."""
    return np.where(flip[:, None], faces[:, ::-1], faces)


def _classify_open(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, is_open: np.ndarray, device: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Open patches to turn, those that are sheets, and those that are buried; (number,) bool each."""
    visibility = patch_visibility(vertices, faces, patch, is_open, device, seed)
    most = np.maximum(visibility.front, visibility.back)
    least = np.minimum(visibility.front, visibility.back)
    turn = is_open & (visibility.back > visibility.front)
    ratio = least / np.maximum(most, 1e-12)
    doubtful = is_open & ((most < _INVISIBLE) | (ratio > _PART_RATIO))
    buried = np.zeros(len(is_open), bool)
    if doubtful.any() and not doubtful.all():
        sure = ~doubtful[patch]
        outward = _flipped(faces[sure], turn[patch[sure]])
        rows = doubtful[visibility.patch]
        inside = is_inside(vertices, outward, visibility.points[rows], device)
        share = np.bincount(visibility.patch[rows], inside, len(is_open)) / np.maximum(
            np.bincount(visibility.patch[rows], minlength=len(is_open)), 1
        )
        # Not 1: the solid of the other patches may have holes, near which the winding number is below one half.
        buried = doubtful & (share > 0.9)
    sheet = is_open & ~buried & (most >= _INVISIBLE) & (ratio > _SHEET_RATIO)
    return turn & ~sheet, sheet, buried


def _assemble(
    vertices: np.ndarray,
    faces: np.ndarray,
    patch: np.ndarray,
    sheet: np.ndarray,
    buried: np.ndarray,
    source: np.ndarray,
    device: str,
    counts: dict,
) -> OrientedMesh:
    """Cap the solid's holes, remove what lies inside, and split the faces into the sets of `OrientedMesh`."""
    solid = ~(sheet | buried)[patch]
    own = int(solid.sum())
    caps = cap_holes(vertices, faces[solid], patch[solid])
    vertices = np.concatenate([vertices, caps.added])
    full = np.concatenate([faces[solid], caps.faces])
    sealed = caps.open_loops == 0 and own > 0
    crossing = crossing_faces(vertices, full, device) if own else np.zeros(0, bool)
    if sealed:
        inner, crossing = buried_regions(vertices, full, crossing, len(sheet), device)
    else:
        # With a boundary, the winding number varies along the surface, so regions have no common answer.
        inner = buried_faces(vertices, full, full, device)
    hidden = buried[patch]
    hidden[solid] = inner[:own]
    loose = sheet[patch]
    hidden[loose] = buried_faces(vertices, faces[loose], full, device)
    partly_hidden = np.zeros(len(faces), bool)
    partly_hidden[solid] = crossing[:own]
    return OrientedMesh(
        vertices=vertices.astype(np.float32),
        faces=faces[~hidden].astype(np.int32),
        source_faces=source[~hidden],
        loose=loose[~hidden],
        solid_faces=full.astype(np.int32),
        shell_faces=full[~inner].astype(np.int32),
        shell_own=own - int(inner[:own].sum()),
        shell_crossing=crossing[~inner],
        crossing=partly_hidden[~hidden],
        closed=sealed and caps.capped == 0 and not sheet.any(),
        sealed=sealed,
        buried=int(hidden.sum()),
        sheets=int(loose.sum()),
        holes=caps.capped + caps.open_loops,
        capped=caps.capped,
        **counts,
    )
