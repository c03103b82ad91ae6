"""Make a dirty mesh answer "inside or outside?".

Merge, drop doubled faces, weld cracks, wind neighbours alike, turn every patch outward (closed ones by their
signed volume, open ones by which side sees the sky), leave out what is buried, close small holes. Outside is
what is seen from outside: nested and overlapping parts make a union, without cavities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh

from deepsdf.geometry.meshes import clean_mesh
from deepsdf.geometry.repair.buried import buried_one_by_one, buried_regions, crossing_faces, inside_of
from deepsdf.geometry.repair.cavities import cavity_turns
from deepsdf.geometry.repair.cracks import weld_cracks
from deepsdf.geometry.repair.holes import cap_holes
from deepsdf.geometry.repair.patches import boundary_of, orient_patches, signed_volumes
from deepsdf.geometry.repair.visibility import see_sky

SHEET_RATIO = 0.6
"""An open patch whose one side sees the sky at least this share as much as the other encloses nothing."""

_UNSEEN = 0.002  # share of rays; below it neither side of a patch sees the sky
_WEAKLY_ONE_SIDED = 0.3  # patches above this ratio may be inner walls seen through a window


@dataclass(frozen=True, eq=False)
class OrientedMesh:
    """A repaired mesh in a working frame: `mesh frame = vertices / scale + center`.

    `faces` are the outer surface, wound outward (sheets that enclose nothing: either way).
    `solid_faces` bound the solid: the winding number around them decides. `shell_faces` are those that can be seen:
    the outer surface without sheets, and caps on its holes.
    """

    vertices: np.ndarray
    """(v, 3) float32, about unit size, centred."""
    faces: np.ndarray
    """(f, 3) int32."""
    source_faces: np.ndarray
    """(f,) rows of the given mesh's faces."""
    loose: np.ndarray
    """(f,) bool: of open sheets."""
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
    """`solid_faces` have no boundary: the winding number is a whole number everywhere."""
    degenerate: int
    doubled: int
    flipped: int
    buried: int
    """Faces inside the solid, left out of `faces`."""
    sheets: int
    """Faces of open patches that enclose nothing."""
    holes: int
    """Boundary loops, closed by a cap or not."""
    capped: int

    @property
    def dropped(self) -> int:
        """Faces of the given mesh that are not part of the outer surface."""
        return self.degenerate + self.doubled + self.buried


def working_frame(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Center (3,) and scale that bring vertices to about unit size; a power of two, so scaling is exact."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (low + high) / 2, float(2.0 ** -np.ceil(np.log2((high - low).max() / 2)))


def orient_mesh(
    mesh: trimesh.Trimesh, *, keep_cavities: bool = False, device: str = "cpu", seed: int = 0
) -> OrientedMesh:
    """Repair a mesh, in any frame, so that its inside is defined as well as it can be.

    Args:
        keep_cavities: closed shells inside others that the file winds the other way stay hollow;
            otherwise they are filled.
        device: Warp's name of the device for ray queries.
        seed: of the ray origins.
    Raises:
        MeshError: no face with an area.
    """
    clean = clean_mesh(mesh)
    source, stored = clean.source_faces, np.asarray(clean.mesh.faces, np.int64)
    center, scale = working_frame(clean.mesh.vertices)
    vertices = (clean.mesh.vertices - center) * scale
    welded, kept = weld_cracks(vertices, stored)
    source, faces = source[kept], welded
    flip, patch, number = orient_patches(faces)
    volumes = signed_volumes(vertices, _turn(faces, flip), patch, number)
    open_patches = np.unique(boundary_of(_turn(faces, flip), patch)[:, 2])
    is_open = np.isin(np.arange(number), open_patches)
    turn = ~is_open & (volumes < 0)
    sheet = buried = np.zeros(number, bool)
    if is_open.any():
        turned = _turn(faces, flip ^ turn[patch])
        see = _judge_open(vertices, turned, patch, is_open, device, seed)
        turn, sheet, buried = turn ^ see[0], see[1], see[2]
    if keep_cavities:
        turn ^= cavity_turns(vertices, _turn(faces, flip ^ turn[patch]), patch, ~is_open, flip ^ turn[patch])
    flip ^= turn[patch]
    faces = _turn(faces, flip)
    return _assemble(
        vertices, faces, patch, sheet, buried, source, device,
        {
            "center": center, "scale": scale, "degenerate": clean.degenerate,
            "doubled": clean.doubled + len(stored) - len(kept), "flipped": int(flip.sum()),
        },
    )  # fmt: skip


def _turn(faces: np.ndarray, flip: np.ndarray) -> np.ndarray:
    return np.where(flip[:, None], faces[:, ::-1], faces)


def _judge_open(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, is_open: np.ndarray, device: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which open patches to turn, which are sheets, which are buried; each (number,) bool."""
    view = see_sky(vertices, faces, patch, is_open, device, seed)
    most, least = np.maximum(view.front, view.back), np.minimum(view.front, view.back)
    turn = is_open & (view.back > view.front)
    ratio = least / np.maximum(most, 1e-12)
    doubtful = is_open & ((most < _UNSEEN) | (ratio > _WEAKLY_ONE_SIDED))
    buried = np.zeros(len(is_open), bool)
    if doubtful.any() and not doubtful.all():
        sure = ~doubtful[patch]
        outward = _turn(faces[sure], turn[patch[sure]])
        rows = doubtful[view.patch]
        inside = inside_of(vertices, outward, view.points[rows], device)
        share = np.bincount(view.patch[rows], inside, len(is_open)) / np.maximum(
            np.bincount(view.patch[rows], minlength=len(is_open)), 1
        )
        buried = doubtful & (share > 0.9)
    sheet = is_open & ~buried & (most >= _UNSEEN) & (ratio > SHEET_RATIO)
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
        inner = buried_one_by_one(vertices, full, full, device)
    hidden = buried[patch]
    hidden[solid] = inner[:own]
    loose = sheet[patch]
    hidden[loose] = buried_one_by_one(vertices, faces[loose], full, device)
    shows = np.zeros(len(faces), bool)
    shows[solid] = crossing[:own]
    return OrientedMesh(
        vertices=vertices.astype(np.float32),
        faces=faces[~hidden].astype(np.int32),
        source_faces=source[~hidden],
        loose=loose[~hidden],
        solid_faces=full.astype(np.int32),
        shell_faces=full[~inner].astype(np.int32),
        shell_own=own - int(inner[:own].sum()),
        shell_crossing=crossing[~inner],
        crossing=shows[~hidden],
        closed=sealed and caps.capped == 0 and not sheet.any(),
        sealed=sealed,
        buried=int(hidden.sum()),
        sheets=int(loose.sum()),
        holes=caps.capped + caps.open_loops,
        capped=caps.capped,
        **counts,
    )
