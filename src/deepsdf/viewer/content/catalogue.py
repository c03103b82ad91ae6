"""The list of an experiment's shapes, and the data known of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

from deepsdf.errors import DeepSDFError, InputError
from deepsdf.files import read_json
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.encode import read_code
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import reconstructed_files
from deepsdf.library.truth import true_shape
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

TRAINING, RECONSTRUCTED, COMPLETED, OWN = "training", "reconstructed", "completed", "yours"
KINDS = (TRAINING, RECONSTRUCTED, COMPLETED, OWN)

MAX_TABLE_BYTES = 2**24
"""Larger .json and .csv files of an experiment are not searched for completions (a few kilobytes) or colours."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A shape of the list.

    Attributes:
        code: returns the code (L,) for a space.
        shape: its name in the data source; None if it is not from there.
        row: its row of the training codes; None if it is not a training shape.
        truth, samples, scan: data of an uploaded shape, unit frame.
    """

    kind: str
    label: str
    code: Callable[[ShapeSpace], Tensor]
    shape: ShapeName | None = None
    row: int | None = None
    truth: trimesh.Trimesh | None = None
    samples: SDFSamples | None = None
    scan: np.ndarray | None = None


@dataclass
class Catalogue:
    """All entries of an experiment, by kind and label."""

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def kinds(self) -> list[str]:
        """Kinds that have at least one shape."""
        return [kind for kind in KINDS if self.entries[kind]]

    def labels(self, kind: str) -> list[str]:
        return list(self.entries[kind])

    def get(self, kind: str, label: str) -> Entry:
        """The entry of a kind and label. Raises InputError if there is none."""
        try:
            return self.entries[kind][label]
        except KeyError:
            raise InputError(f"the list has no {kind} shape {label[:60]!r}") from None

    def training(self, row: int) -> Entry | None:
        """The entry of a row of the training codes, if it was trained."""
        return next((entry for entry in self.entries[TRAINING].values() if entry.row == row), None)

    def add(self, entry: Entry) -> Entry:
        """Add an entry and return it; its label gets a number if it is already in use."""
        entries, label, number = self.entries[entry.kind], entry.label, 2
        while label in entries:
            label, number = f"{entry.label} ({number})", number + 1
        entries[label] = replace(entry, label=label)
        return entries[label]

    def copy(self) -> Catalogue:
        """An independent copy."""
        return Catalogue({kind: dict(entries) for kind, entries in self.entries.items()})


def labels_of(shapes: Iterable[ShapeName]) -> dict[ShapeName, str]:
    """The shortest unique label of each shape: instance, class/instance, or dataset/class/instance."""
    shapes = list(shapes)
    formats: list[Callable[[ShapeName], str]] = [
        lambda shape: shape.instance,
        lambda shape: f"{shape.category}/{shape.instance}",
        str,
    ]
    found: dict[ShapeName, str] = {}
    for label in formats:
        counts = Counter(map(label, shapes))
        found |= {shape: label(shape) for shape in shapes if shape not in found and counts[label(shape)] == 1}
    return found


def catalogue_of(experiment: Experiment, space: ShapeSpace, files: Iterable[Path] = ()) -> Catalogue:
    """Training, reconstructed and completed shapes of an experiment.

    Completions are the .json files that `deepsdf complete` writes next to its meshes, anywhere below the experiment's
    folder.

    Args:
        files: further completions (.json) and code files (.pth).
    Raises:
        InputError: one of `files` is neither, or belongs to another space.
    """
    found = Catalogue()
    for entry in _training(experiment, space):
        found.add(entry)
    for entry in _reconstructed(experiment, space):
        found.add(entry)
    for path in sorted(experiment.root.rglob("*.json")):
        # Other .json files are settings and tables; unreadable ones are skipped.
        if path.name not in ("specs.json", ".commit.json") and (entry := _completion(path, space)):
            found.add(entry)
    for path in files:
        found.add(_listed_file(path, space))
    return found


def _training(experiment: Experiment, space: ShapeSpace) -> list[Entry]:
    try:
        shapes = read_split(experiment.specs.train_split)
    except (DeepSDFError, OSError):  # without the split, shapes are labelled by row
        shapes = []
    if len(shapes) != len(space.codes):
        shapes = []
    labels = labels_of(shapes)
    trained = space.is_trained.tolist()
    entries = []
    for row in range(len(space.codes)):
        if trained[row]:
            shape = shapes[row] if shapes else None
            label = labels[shape] if shape else f"training shape {row}"
            entries.append(Entry(TRAINING, label, lambda space, row=row: _row(space, row), shape, row))
    return entries


def _row(space: ShapeSpace, row: int) -> Tensor:
    if row >= len(space.codes):
        raise InputError(f"the checkpoint of epoch {space.epoch} has no training code {row}")
    return space.codes[row]


def _reconstructed(experiment: Experiment, space: ShapeSpace) -> list[Entry]:
    paths = reconstructed_files(experiment, space)
    labels = labels_of(paths)
    return [
        Entry(RECONSTRUCTED, labels[shape], lambda space, path=path: _read(path, space), shape)
        for shape, path in paths.items()
    ]


def _read(path: Path, space: ShapeSpace) -> Tensor:
    return read_code(path, space.code_length).to(space.device)


def _completion(path: Path, space: ShapeSpace) -> Entry | None:
    """The entry of a completion's .json; None if the file is not a completion of this space."""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES or '"scan_to_unit"' not in path.read_text(encoding="utf-8"):
            return None
        given = read_json(path, "a completion")["code"]
        code = torch.tensor([float(number) for number in given])
    except (DeepSDFError, OSError, ValueError, KeyError, TypeError, json.JSONDecodeError):
        return None
    if len(code) != space.code_length or not torch.isfinite(code).all():
        return None
    return Entry(COMPLETED, path.stem, lambda space, code=code: _of_length(code, space, path))


def _of_length(code: Tensor, space: ShapeSpace, path: Path) -> Tensor:
    if len(code) != space.code_length:
        raise InputError(f"{path} holds a code of {len(code)} numbers; this space has codes of {space.code_length}")
    return code.to(space.device)


def _listed_file(path: Path, space: ShapeSpace) -> Entry:
    if path.suffix == ".pth":
        code = _read(path, space)
        return Entry(COMPLETED, path.stem, lambda space: _of_length(code, space, path))
    entry = _completion(path, space) if path.suffix == ".json" else None
    if entry is None:
        raise InputError(
            f"{path} is not a shape of this space; expected a code file (.pth), or the .json that `deepsdf complete` "
            "writes next to its mesh, from the same experiment"
        )
    return entry


@dataclass(frozen=True)
class ShapeData:
    """Data of a shape besides its code, unit frame; None where it is not available.

    Attributes:
        truth: the true mesh.
        points: (n, 3) surface samples, in place of a true mesh.
        samples: SDF samples that were trained on or fitted.
        scan: (n, 3) points of a partial scan.
    """

    truth: trimesh.Trimesh | None = None
    points: np.ndarray | None = None
    samples: SDFSamples | None = None
    scan: np.ndarray | None = None


def load_shape_data(entry: Entry, data: DataSource | None) -> ShapeData:
    """Data of a shape that is available and readable; surface samples replace a missing true mesh."""
    if entry.shape is None or data is None:
        return ShapeData(entry.truth, None, entry.samples, entry.scan)
    shape, truth, points, samples = entry.shape, None, None, None
    try:
        truth = true_shape(data, shape).mesh
    except (DeepSDFError, OSError):
        try:
            points = data.load_normalization(shape).apply(data.load_surface(shape))
        except (DeepSDFError, OSError):
            points = None
    try:
        samples = data.load_samples(shape)
    except (DeepSDFError, OSError):
        samples = None
    return ShapeData(truth, points, samples, entry.scan)


def data_of(experiment: Experiment) -> DataSource | None:
    """The experiment's data source, if it still exists."""
    try:
        return DataSource.open(experiment.specs.data_source)
    except (DeepSDFError, OSError):
        return None
