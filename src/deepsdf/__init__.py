"""deepsdf: learned signed distance functions.

From a folder of meshes, however broken, to a space of shapes: an auto-decoder network in which every shape is a
short code (Park et al., DeepSDF, CVPR 2019). SDFs are negative inside; the unit frame is the unit sphere.

The names below are the public API. They are imported when first used, so that `import deepsdf` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepsdf._version import __version__

if TYPE_CHECKING:
    from deepsdf.errors import DeepSDFError as DeepSDFError
    from deepsdf.errors import InputError as InputError
    from deepsdf.errors import MeshError as MeshError
    from deepsdf.errors import NoSurfaceError as NoSurfaceError
    from deepsdf.errors import TrainingError as TrainingError
    from deepsdf.geometry.depth_camera import DepthCamera as DepthCamera
    from deepsdf.geometry.distance import MeshSDF as MeshSDF
    from deepsdf.geometry.meshes import Normalization as Normalization
    from deepsdf.geometry.meshes import load_mesh as load_mesh
    from deepsdf.geometry.metrics import Chamfer as Chamfer
    from deepsdf.geometry.metrics import SDFError as SDFError
    from deepsdf.geometry.metrics import SurfaceMetrics as SurfaceMetrics
    from deepsdf.geometry.metrics import chamfer as chamfer
    from deepsdf.geometry.metrics import compare as compare
    from deepsdf.geometry.metrics import sdf_error as sdf_error
    from deepsdf.geometry.polygonize import polygonize as polygonize
    from deepsdf.geometry.sampling import SDFSamples as SDFSamples
    from deepsdf.geometry.sampling import sample_sdf as sample_sdf
    from deepsdf.geometry.sampling import sample_surface as sample_surface
    from deepsdf.geometry.scanning import Scan as Scan
    from deepsdf.geometry.scanning import scan as scan
    from deepsdf.inference.fitting import Fit as Fit
    from deepsdf.inference.shapespace import Shape as Shape
    from deepsdf.inference.shapespace import ShapeSpace as ShapeSpace
    from deepsdf.specs import Specs as Specs
    from deepsdf.training.loop import train as train
    from deepsdf.workspace import DataSource as DataSource
    from deepsdf.workspace import Experiment as Experiment

_ROOMS = {
    "Chamfer": "geometry.metrics",
    "DataSource": "workspace",
    "DeepSDFError": "errors",
    "DepthCamera": "geometry.depth_camera",
    "Experiment": "workspace",
    "Fit": "inference.fitting",
    "InputError": "errors",
    "MeshError": "errors",
    "MeshSDF": "geometry.distance",
    "NoSurfaceError": "errors",
    "Normalization": "geometry.meshes",
    "SDFError": "geometry.metrics",
    "SDFSamples": "geometry.sampling",
    "Scan": "geometry.scanning",
    "Shape": "inference.shapespace",
    "ShapeSpace": "inference.shapespace",
    "Specs": "specs",
    "SurfaceMetrics": "geometry.metrics",
    "TrainingError": "errors",
    "chamfer": "geometry.metrics",
    "compare": "geometry.metrics",
    "load_mesh": "geometry.meshes",
    "polygonize": "geometry.polygonize",
    "sample_sdf": "geometry.sampling",
    "sample_surface": "geometry.sampling",
    "scan": "geometry.scanning",
    "sdf_error": "geometry.metrics",
    "train": "training.loop",
}

__all__ = ["__version__", *_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'deepsdf' has no attribute {name!r}")
    return getattr(import_module(f"deepsdf.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
