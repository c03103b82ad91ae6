"""What can be seen of a file or of a shape of a data source, brought into the unit frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import trimesh

from deepsdf.errors import DeepSDFError, InputError, NoFacesError
from deepsdf.figures.subjects import of_file as subject_of
from deepsdf.files import safe_name
from deepsdf.geometry.fields import Field
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import Normalization, clean_mesh, load_mesh
from deepsdf.geometry.scanning.files import load_scan, scan_suffixes
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.library.quality import Quality, QualityFile
from deepsdf.library.truth import true_shape
from deepsdf.splits import ShapeName, shapes_in
from deepsdf.viewer.pages.widgets import many
from deepsdf.workspace import DataSource


@dataclass(frozen=True)
class Look:
    """All of it may be missing.

    Attributes:
        mesh, points, samples: unit frame.
        field: makes the signed distance, which may take a while.
        facts: name and value, plain text.
    """

    name: str
    mesh: trimesh.Trimesh | None = None
    points: np.ndarray | None = None
    samples: SDFSamples | None = None
    field: Callable[[], Field] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    verdict: Quality | None = None


def of_path(path: Path) -> Look:
    """One file.

    Raises:
        InputError: no such file, of another kind, or broken.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"there is no file or folder {path}")
    if suffix == ".npz":
        return _of_samples(path)
    if suffix in MESH_FORMATS:
        try:
            return _of_mesh(path)
        except NoFacesError:
            pass  # points, then
    if suffix not in scan_suffixes():
        kinds = ", ".join((*scan_suffixes(), ".npz"))
        raise InputError(f"{path} cannot be looked at; give one of {kinds}")
    return _of_scan(path)


def _of_samples(path: Path) -> Look:
    samples = SDFSamples.load(path)
    subject = subject_of(path, "cpu")
    distances = samples.distances
    facts = [
        ("Samples outside", many(len(samples.pos))),
        ("Samples inside", many(len(samples.neg))),
        ("Signed distance", f"{distances.min():.3f} to {distances.max():.3f}"),
        ("Within 0.1 of the surface", f"{float((np.abs(distances) < 0.1).mean()):.0%}"),
    ]
    return Look(path.stem, samples=samples, field=subject.field, facts=tuple(facts))


def _of_mesh(path: Path) -> Look:
    mesh = load_mesh(path)
    normalization = Normalization.fit(mesh)
    unit = normalization.apply_mesh(mesh)
    facts = [
        ("Vertices", many(len(mesh.vertices))),
        ("Triangles", many(len(mesh.faces))),
        ("Watertight", "yes" if clean_mesh(mesh).mesh.is_watertight else "no"),
        ("Extents", " × ".join(f"{side:.4g}" for side in np.ptp(mesh.vertices, axis=0))),
        ("Scale to the unit frame", f"{normalization.scale:.4g}"),
    ]
    return Look(path.stem, mesh=unit, field=lambda: MeshSDF(unit), facts=tuple(facts))


def _of_scan(path: Path) -> Look:
    scan = load_scan(path)
    low, high = scan.points.min(axis=0), scan.points.max(axis=0)
    middle = (low + high) / 2
    points = scan.points - middle
    farthest = float(np.linalg.norm(points, axis=1).max())
    facts = [
        ("Points", many(len(scan))),
        ("Normals known", f"{float(np.mean(scan.oriented)):.0%}"),
        ("Cameras known", f"{float(np.isfinite(scan.cameras).all(axis=1).mean()):.0%}"),
        ("Noise", f"{scan.noise:.3g}"),
        ("Extents", " × ".join(f"{side:.4g}" for side in high - low)),
    ]
    return Look(path.stem, points=points / max(farthest, 1e-12), facts=tuple(facts))


def shapes_of(data: DataSource) -> dict[ShapeName, Quality | None]:
    """Shapes of a data source that have samples, or a verdict, with it.

    Raises:
        InputError: there are none.
    """
    verdicts = QualityFile(data.quality_path).read()
    found: dict[ShapeName, Quality | None] = {}
    for name, verdict in verdicts.items():
        parts = name.split("/")
        try:
            found[ShapeName(*(safe_name(part, "preprocess.csv") for part in parts))] = verdict
        except (TypeError, InputError):
            continue  # a row of no shape
    folders = ((data.root / "SdfSamples", ".npz"), (data.root / "SurfaceSamples", ".ply"))
    for folder, suffix in folders:
        for shape in shapes_in(folder, suffix):
            found.setdefault(shape, None)
    if not found:
        raise InputError(
            f"there are no samples in {data.root} (SdfSamples/<dataset>/<class>/<instance>.npz); "
            "`deepsdf preprocess` makes them"
        )
    return dict(sorted(found.items()))


def of_shape(data: DataSource, shape: ShapeName, verdict: Quality | None) -> Look:
    """A shape of a data source, as far as its files can be read; what cannot be is told among the facts."""
    mesh = points = samples = None
    facts: list[tuple[str, str]] = []
    try:
        mesh = true_shape(data, shape).mesh
        facts.append(("Triangles of the mesh", many(len(mesh.faces))))
    except (DeepSDFError, OSError) as error:
        facts.append(("Mesh", str(error)))
    if data.surface_path(shape).is_file():
        try:
            points = data.load_normalization(shape).apply(data.load_surface(shape))
        except (DeepSDFError, OSError) as error:
            facts.append(("Surface samples", str(error)))
    try:
        samples = data.load_samples(shape)
        facts += [("Samples outside", many(len(samples.pos))), ("Samples inside", many(len(samples.neg)))]
    except (DeepSDFError, OSError) as error:
        facts.append(("Samples", str(error)))
    make: Callable[[], Field] | None = None
    if mesh is not None:
        make = partial(MeshSDF, mesh)
    elif samples is not None and len(samples):
        path = data.samples_path(shape)
        make = subject_of(path, "cpu").field
    return Look(str(shape), mesh, points, samples, make, tuple(facts), verdict)
