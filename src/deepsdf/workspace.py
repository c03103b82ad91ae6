"""Folder and file names of data sources and experiments.

The layout is that of the original program, and both programs read each other's files.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import trimesh

from deepsdf.errors import InputError
from deepsdf.files import atomic_path, locked, read_json, safe_name, write_text
from deepsdf.geometry.meshes import Normalization
from deepsdf.geometry.point_clouds import load_points
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.journal import listed
from deepsdf.specs import Specs
from deepsdf.splits import ShapeName

_NORMALIZATION = (("offset", 3), ("scale", 1))


def read_normalization(path: Path) -> Normalization:
    """Read normalization parameters. Raises InputError if the file is missing or broken."""
    again = "recreate it with `deepsdf preprocess --surface`"
    try:
        with path.open("rb") as file:
            if not is_zipfile(file):  # numpy's own error would suggest to unpickle the file
                raise InputError("it is not an .npz file, or is truncated")
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
            offset, scale = (arrays[name].astype(np.float64).reshape(size) for name, size in _NORMALIZATION)
    except FileNotFoundError:
        raise InputError(f"there are no normalization parameters at {path}; {again}") from None
    except Exception as error:  # damaged files raise exceptions of any type
        raise InputError(
            f"{path} does not contain normalization parameters (offset (3,), scale (1,)): {error}; {again}"
        ) from None
    if not (np.isfinite(offset).all() and np.isfinite(scale).all() and scale[0] > 0):
        raise InputError(f"{path}: offset {offset} and scale {scale} are not a valid normalization; {again}")
    return Normalization(offset, float(scale[0]))


@dataclass(frozen=True)
class DataSource:
    """A folder of preprocessed shapes."""

    root: Path

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> DataSource:
        """Open an existing data source.

        Raises:
            InputError: no such folder.
        """
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"there is no data source at {root}; create one with `deepsdf preprocess -d {root} ...`")
        return cls(root)

    @property
    def registry_path(self) -> Path:
        """File `{dataset: absolute path of its folder of meshes}`."""
        return self.root / ".datasources.json"

    def samples_path(self, shape: ShapeName) -> Path:
        """SDF samples, unit frame."""
        return shape.path(self.root / "SdfSamples", ".npz")

    def surface_path(self, shape: ShapeName) -> Path:
        """Points on the surface, mesh frame."""
        return shape.path(self.root / "SurfaceSamples", ".ply")

    def normalization_path(self, shape: ShapeName) -> Path:
        """Normalization from the mesh frame to the unit frame."""
        return shape.path(self.root / "NormalizationParameters", ".npz")

    @property
    def quality_path(self) -> Path:
        """Table of the verdicts on each shape's samples."""
        return self.root / "preprocess.csv"

    def picture_path(self, shape: ShapeName) -> Path:
        """Picture of the shape and a slice of its SDF, for the contact sheet."""
        return shape.path(self.root / "Pictures", ".png")

    def sheet_path(self, split: str, page: int) -> Path:
        """Page of a split's contact sheet, counted from 1."""
        return self.root / "Pictures" / f"{safe_name(split, 'the split')}-{page}.png"

    @property
    def packed_folder(self) -> Path:
        """Samples of whole splits in one file each, for data sets larger than memory. A cache: it may be removed."""
        return self.root / ".packed"

    def register(self, dataset: str, meshes: Path) -> None:
        """Record the folder of a dataset's meshes.

        Raises:
            InputError: the dataset was made from another folder.
        """
        folder = os.path.abspath(meshes)
        with locked(self.root):
            known = self._registry()
            if known.setdefault(dataset, folder) != folder:
                raise InputError(
                    f"the dataset {dataset!r} of {self.root} was made from {known[dataset]}, not from {folder}; "
                    f"choose another name with --name"
                )
            write_text(self.registry_path, json.dumps(known, indent=2) + "\n")

    def meshes_of(self, dataset: str) -> Path | None:
        """Folder of a dataset's meshes; None if it is unknown or no longer exists."""
        folder = self._registry().get(dataset)
        return Path(folder) if folder and Path(folder).is_dir() else None

    def _registry(self) -> dict[str, str]:
        if not self.registry_path.exists():
            return {}
        known = read_json(self.registry_path, "a data source registry")
        if not isinstance(known, dict) or not all(isinstance(folder, str) for folder in known.values()):
            raise InputError(f"{self.registry_path} is not a data source registry; expected {{name: folder}}")
        return known

    def load_samples(self, shape: ShapeName) -> SDFSamples:
        """SDF samples, unit frame. Raises InputError if the file is missing or broken."""
        return SDFSamples.load(self.samples_path(shape))

    def load_surface(self, shape: ShapeName) -> np.ndarray:
        """Surface points (n, 3), mesh frame."""
        return load_points(self.surface_path(shape))

    def save_surface(self, shape: ShapeName, points: np.ndarray) -> None:
        """Write surface points (n, 3), mesh frame, as float32."""
        with atomic_path(self.surface_path(shape)) as temporary:
            trimesh.PointCloud(np.asarray(points, np.float32)).export(temporary)

    def load_normalization(self, shape: ShapeName) -> Normalization:
        """Normalization from the mesh frame. Raises InputError if the file is missing or broken."""
        return read_normalization(self.normalization_path(shape))

    def save_normalization(self, shape: ShapeName, normalization: Normalization) -> None:
        """Write offset (3,) and scale (1,) as float32, like the original."""
        with atomic_path(self.normalization_path(shape)) as temporary:
            np.savez(
                temporary,
                offset=normalization.offset.astype(np.float32),
                scale=np.array([normalization.scale], np.float32),
            )


@dataclass(frozen=True)
class Experiment:
    """A folder with settings, checkpoints and results."""

    root: Path

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> Experiment:
        """Open an existing experiment: a folder with specs.json.

        Raises:
            InputError: no such folder, or no settings in it.
        """
        root = Path(root)
        if not root.is_dir():
            raise InputError(f"there is no experiment folder {root}; create it, with a specs.json in it")
        if not (root / "specs.json").is_file():
            raise InputError(f"{root} is not an experiment: it has no specs.json")
        return cls(root)

    @cached_property
    def specs(self) -> Specs:
        """Settings of the experiment. Raises InputError as `Specs.load`."""
        return Specs.load(self.root / "specs.json")

    @property
    def logs_path(self) -> Path:
        """The training log."""
        return self.root / "Logs.pth"

    @property
    def tensorboard_folder(self) -> Path:
        """Event files of `train --tensorboard`."""
        return self.root / "TensorBoard"

    def model_path(self, checkpoint: str | int) -> Path:
        """Decoder weights of a checkpoint."""
        return self._checkpoint("ModelParameters", checkpoint)

    def optimizer_path(self, checkpoint: str | int) -> Path:
        """Optimizer state of a checkpoint."""
        return self._checkpoint("OptimizerParameters", checkpoint)

    def codes_path(self, checkpoint: str | int) -> Path:
        """Training codes of a checkpoint."""
        return self._checkpoint("LatentCodes", checkpoint)

    def _checkpoint(self, folder: str, checkpoint: str | int) -> Path:
        return self.root / folder / (safe_name(str(checkpoint), "the checkpoint's name") + ".pth")

    def checkpoints(self) -> list[str]:
        """Names of the existing checkpoints: epochs in ascending order, then "latest"."""
        files = listed(self.root, self.root / "ModelParameters")
        names = [name.removesuffix(".pth") for name in files if name.endswith(".pth") and name[0] != "."]
        numbers = {name: int(name) for name in names if name.isascii() and name.isdigit()}
        return sorted(names, key=lambda name: (name not in numbers, numbers.get(name, 0), name))

    def checkpoint_files(self, checkpoint: str | int) -> list[Path]:
        """Files of the model, the optimizer and the codes."""
        return [self.model_path(checkpoint), self.optimizer_path(checkpoint), self.codes_path(checkpoint)]

    @property
    def lock_path(self) -> Path:
        """Lock file that a running training holds."""
        return self.root / ".training.lock"

    def reconstructed_mesh_path(self, epoch: str | int, shape: ShapeName) -> Path:
        """Mesh of a reconstructed shape, unit frame."""
        return shape.path(self._reconstructions(epoch) / "Meshes", ".ply")

    def reconstructed_codes_folder(self, epoch: str | int) -> Path:
        """Codes of reconstructed shapes."""
        return self._reconstructions(epoch) / "Codes"

    def reconstructed_code_path(self, epoch: str | int, shape: ShapeName) -> Path:
        """Code of a reconstructed shape."""
        return shape.path(self.reconstructed_codes_folder(epoch), ".pth")

    def reconstruction_table_path(self, epoch: str | int) -> Path:
        """Table of all fits: loss, steps, uncertainty, warnings."""
        return self._reconstructions(epoch) / "reconstruct.csv"

    def _reconstructions(self, epoch: str | int) -> Path:
        return self.root / "Reconstructions" / safe_name(str(epoch), "the checkpoint's name")

    def training_mesh_path(self, epoch: str | int, shape: ShapeName) -> Path:
        """Mesh of a training shape, in the mesh frame or the unit frame."""
        return shape.path(self.root / "TrainingMeshes" / safe_name(str(epoch), "the checkpoint's name"), ".ply")

    def evaluation_folder(self, checkpoint: str | int) -> Path:
        """Tables, pictures and report of an evaluation."""
        return self.root / "Evaluation" / safe_name(str(checkpoint), "the checkpoint's name")
