"""Contents of a file, or of a shape of a data source, prepared for display in the unit frame."""

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
from deepsdf.viewer.html import grouped
from deepsdf.workspace import DataSource


@dataclass(frozen=True)
class Preview:
    """What can be shown. Every part may be missing.

    Attributes:
        mesh: unit frame.
        points: (n, 3) surface points, unit frame.
        samples: SDF samples, unit frame.
        field: computes the signed distance field, which may take seconds.
        properties: names and values, plain text.
        verdict: of `deepsdf preprocess`.
    """

    name: str
    mesh: trimesh.Trimesh | None = None
    points: np.ndarray | None = None
    samples: SDFSamples | None = None
    field: Callable[[], Field] | None = None
    properties: tuple[tuple[str, str], ...] = ()
    verdict: Quality | None = None


def preview_file(path: Path) -> Preview:
    """Contents of a mesh, an .npz of SDF samples, a point cloud or a scan.

    Raises:
        InputError: no such file, an unknown kind, or a broken file.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"there is no file or folder {path}")
    if suffix == ".npz":
        return _preview_samples(path)
    if suffix in MESH_FORMATS:
        try:
            return _preview_mesh(path)
        except NoFacesError:
            pass  # a point cloud
    if suffix not in scan_suffixes():
        kinds = ", ".join((*scan_suffixes(), ".npz"))
        raise InputError(f"{path} cannot be shown; expected one of {kinds}")
    return _preview_scan(path)


def _preview_samples(path: Path) -> Preview:
    samples = SDFSamples.load(path)
    subject = subject_of(path, "cpu")
    distances = samples.distances
    properties = [
        ("Samples outside", grouped(len(samples.pos))),
        ("Samples inside", grouped(len(samples.neg))),
        ("Signed distance", f"{distances.min():.3f} to {distances.max():.3f}"),
        ("Within 0.1 of the surface", f"{float((np.abs(distances) < 0.1).mean()):.0%}"),
    ]
    return Preview(path.stem, samples=samples, field=subject.field, properties=tuple(properties))


def _preview_mesh(path: Path) -> Preview:
    mesh = load_mesh(path)
    normalization = Normalization.fit(mesh)
    unit = normalization.apply_mesh(mesh)
    properties = [
        ("Vertices", grouped(len(mesh.vertices))),
        ("Triangles", grouped(len(mesh.faces))),
        ("Watertight", "yes" if clean_mesh(mesh).mesh.is_watertight else "no"),
        ("Size", " × ".join(f"{side:.4g}" for side in np.ptp(mesh.vertices, axis=0))),
        ("Scale to the unit frame", f"{normalization.scale:.4g}"),
    ]
    return Preview(path.stem, mesh=unit, field=lambda: MeshSDF(unit), properties=tuple(properties))


def _preview_scan(path: Path) -> Preview:
    scan = load_scan(path)
    low, high = scan.points.min(axis=0), scan.points.max(axis=0)
    middle = (low + high) / 2
    points = scan.points - middle
    farthest = float(np.linalg.norm(points, axis=1).max())
    properties = [
        ("Points", grouped(len(scan))),
        ("Points with oriented normals", f"{float(np.mean(scan.oriented)):.0%}"),
        ("Points with a known camera", f"{float(np.isfinite(scan.cameras).all(axis=1).mean()):.0%}"),
        ("Noise", f"{scan.noise:.3g}"),
        ("Size", " × ".join(f"{side:.4g}" for side in high - low)),
    ]
    return Preview(path.stem, points=points / max(farthest, 1e-12), properties=tuple(properties))


def data_shapes(data: DataSource) -> dict[ShapeName, Quality | None]:
    """Shapes of a data source that have samples or a verdict, with their verdicts.

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
            continue  # not the name of a shape
    folders = ((data.root / "SdfSamples", ".npz"), (data.root / "SurfaceSamples", ".ply"))
    for folder, suffix in folders:
        for shape in shapes_in(folder, suffix):
            found.setdefault(shape, None)
    if not found:
        raise InputError(
            f"there are no samples in {data.root} (SdfSamples/<dataset>/<class>/<instance>.npz); "
            "create them with `deepsdf preprocess`"
        )
    return dict(sorted(found.items()))


def preview_shape(data: DataSource, shape: ShapeName, verdict: Quality | None) -> Preview:
    """A shape of a data source. Files that cannot be read are left out, with the reason among the properties."""
    mesh = points = samples = None
    properties: list[tuple[str, str]] = []
    try:
        mesh = true_shape(data, shape).mesh
        properties.append(("Triangles of the mesh", grouped(len(mesh.faces))))
    except (DeepSDFError, OSError) as error:
        properties.append(("Mesh", str(error)))
    if data.surface_path(shape).is_file():
        try:
            points = data.load_normalization(shape).apply(data.load_surface(shape))
        except (DeepSDFError, OSError) as error:
            properties.append(("Surface samples", str(error)))
    try:
        samples = data.load_samples(shape)
        properties += [("Samples outside", grouped(len(samples.pos))), ("Samples inside", grouped(len(samples.neg)))]
    except (DeepSDFError, OSError) as error:
        properties.append(("Samples", str(error)))
    field: Callable[[], Field] | None = None
    if mesh is not None:
        field = partial(MeshSDF, mesh)
    elif samples is not None and len(samples):
        field = subject_of(data.samples_path(shape), "cpu").field
    return Preview(str(shape), mesh, points, samples, field, tuple(properties), verdict)
