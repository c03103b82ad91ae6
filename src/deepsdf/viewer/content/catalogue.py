"""The shapes of an experiment that can be picked by name, and what is known of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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

LARGEST_JSON = 2**24
"""Bytes of a completion's figures; larger files are something else."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One shape of the list.

    Attributes:
        code: reads it, for a space.
        shape: its names in the data source, where it is from there.
        row: of the training codes.
        truth, samples, scan: what a shape that was dropped in brought along, unit frame; else None.
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
    """All entries of an experiment by kind, and by label within a kind."""

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def kinds(self) -> list[str]:
        """Those that have a shape."""
        return [kind for kind in KINDS if self.entries[kind]]

    def labels(self, kind: str) -> list[str]:
        return list(self.entries[kind])

    def get(self, kind: str, label: str) -> Entry:
        """Raises InputError: no such shape."""
        try:
            return self.entries[kind][label]
        except KeyError:
            raise InputError(f"there is no {kind} shape {label[:60]!r} in the list any more") from None

    def training(self, row: int) -> Entry | None:
        """The entry of a row of the training codes."""
        return next((entry for entry in self.entries[TRAINING].values() if entry.row == row), None)

    def add(self, entry: Entry) -> Entry:
        """Put it into the list, under its label or one like it; returns the entry as it is there."""
        here, label, number = self.entries[entry.kind], entry.label, 2
        while label in here:
            label, number = f"{entry.label} ({number})", number + 1
        made = Entry(**{**entry.__dict__, "label": label})
        here[label] = made
        return made

    def copy(self) -> Catalogue:
        """One that is added to without the other being changed."""
        return Catalogue({kind: dict(entries) for kind, entries in self.entries.items()})


def labels_of(shapes: Iterable[ShapeName]) -> dict[ShapeName, str]:
    """The shortest name of each that no other has: instance, class/instance, or all three."""
    shapes = list(shapes)
    ways: list[Callable[[ShapeName], str]] = [
        lambda shape: shape.instance,
        lambda shape: f"{shape.category}/{shape.instance}",
        str,
    ]
    found: dict[ShapeName, str] = {}
    for way in ways:
        counts = Counter(map(way, shapes))
        found |= {shape: way(shape) for shape in shapes if shape not in found and counts[way(shape)] == 1}
    return found


def catalogue_of(experiment: Experiment, space: ShapeSpace, files: Iterable[Path] = ()) -> Catalogue:
    """Training, reconstructed and completed shapes of an experiment.

    Completions are the .json files that `deepsdf complete` writes beside its meshes, wherever below the experiment's
    folder they lie.

    Args:
        files: more of those, and code files (.pth).
    Raises:
        InputError: one of `files` is neither.
    """
    found = Catalogue()
    for entry in _training(experiment, space):
        found.add(entry)
    for entry in _reconstructed(experiment, space):
        found.add(entry)
    for path in sorted(experiment.root.rglob("*.json")):
        # Others are settings and tables, and what cannot be read is nobody's shape.
        if path.name not in ("specs.json", ".commit.json") and (entry := _completion(path, space)):
            found.add(entry)
    for path in files:
        found.add(_file(path, space))
    return found


def _training(experiment: Experiment, space: ShapeSpace) -> list[Entry]:
    try:
        shapes = read_split(experiment.specs.train_split)
    except (DeepSDFError, OSError):  # the split went elsewhere: codes still have numbers
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
        raise InputError(f"the checkpoint of epoch {space.epoch} has no training code {row} any more")
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
    """The entry of a completion's figures, or None where the file is none for this space."""
    try:
        if path.stat().st_size > LARGEST_JSON or '"scan_to_unit"' not in path.read_text(encoding="utf-8"):
            return None
        given = read_json(path, "figures of a completion")["code"]
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


def _file(path: Path, space: ShapeSpace) -> Entry:
    if path.suffix == ".pth":
        code = _read(path, space)
        return Entry(COMPLETED, path.stem, lambda space: _of_length(code, space, path))
    entry = _completion(path, space) if path.suffix == ".json" else None
    if entry is None:
        raise InputError(
            f"{path} is no shape of this space; give code files (.pth), or the .json that `deepsdf complete` writes "
            "beside its mesh, of the same experiment"
        )
    return entry


@dataclass(frozen=True)
class Known:
    """What is known of a shape besides its code, unit frame; None where it is not there."""

    truth: trimesh.Trimesh | None = None
    points: np.ndarray | None = None
    samples: SDFSamples | None = None
    scan: np.ndarray | None = None


def known_of(entry: Entry, data: DataSource | None) -> Known:
    """Truth and samples, as far as they can be found and read; surface points stand in for a mesh that is gone."""
    if entry.shape is None or data is None:
        return Known(entry.truth, None, entry.samples, entry.scan)
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
    return Known(truth, points, samples, entry.scan)


def data_of(experiment: Experiment) -> DataSource | None:
    """The experiment's data source, where it is still there."""
    try:
        return DataSource.open(experiment.specs.data_source)
    except (DeepSDFError, OSError):
        return None
