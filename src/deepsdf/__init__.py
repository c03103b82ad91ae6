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
    from deepsdf.geometry.isosurface.options import Meshing as Meshing
    from deepsdf.geometry.isosurface.polygonize import polygonize as polygonize
    from deepsdf.geometry.meshes import Normalization as Normalization
    from deepsdf.geometry.meshes import load_mesh as load_mesh
    from deepsdf.geometry.meshes import save_mesh as save_mesh
    from deepsdf.geometry.scanning.depth_camera import DepthCamera as DepthCamera
    from deepsdf.geometry.scanning.files import load_scan as load_scan
    from deepsdf.geometry.scanning.scan import Scan as Scan
    from deepsdf.geometry.scanning.scan import scan as scan
    from deepsdf.geometry.sdf.mesh_sdf import MeshSDF as MeshSDF
    from deepsdf.geometry.sdf.mesh_sdf import signed_distance as signed_distance
    from deepsdf.geometry.sdf.sampling import SDFSamples as SDFSamples
    from deepsdf.geometry.sdf.sampling import sample_sdf as sample_sdf
    from deepsdf.geometry.sdf.sampling import sample_surface as sample_surface
    from deepsdf.inference.complete.completion import Completion as Completion
    from deepsdf.inference.complete.options import CompletionOptions as CompletionOptions
    from deepsdf.inference.encode import EncodeOptions as EncodeOptions
    from deepsdf.inference.encode import Encoding as Encoding
    from deepsdf.inference.encode import encode as encode
    from deepsdf.inference.fit.fitting import Fit as Fit
    from deepsdf.inference.fit.options import FitOptions as FitOptions
    from deepsdf.inference.space import Shape as Shape
    from deepsdf.inference.space import ShapeSpace as ShapeSpace
    from deepsdf.metrics.fields import SDFError as SDFError
    from deepsdf.metrics.fields import sdf_error as sdf_error
    from deepsdf.metrics.pair import MetricOptions as MetricOptions
    from deepsdf.metrics.surfaces import Chamfer as Chamfer
    from deepsdf.metrics.surfaces import SurfaceMetrics as SurfaceMetrics
    from deepsdf.metrics.surfaces import chamfer as chamfer
    from deepsdf.metrics.surfaces import compare as compare
    from deepsdf.pipeline.evaluate import evaluate as evaluate
    from deepsdf.pipeline.preprocess import Sampling as Sampling
    from deepsdf.pipeline.preprocess import preprocess as preprocess
    from deepsdf.pipeline.reconstruct import reconstruct as reconstruct
    from deepsdf.specs import Specs as Specs
    from deepsdf.training.options import TrainingOptions as TrainingOptions
    from deepsdf.training.train import train as train
    from deepsdf.workspace import DataSource as DataSource
    from deepsdf.workspace import Experiment as Experiment

_MODULES = {
    "Chamfer": "metrics.surfaces",
    "Completion": "inference.complete.completion",
    "CompletionOptions": "inference.complete.options",
    "DataSource": "workspace",
    "DeepSDFError": "errors",
    "DepthCamera": "geometry.scanning.depth_camera",
    "EncodeOptions": "inference.encode",
    "Encoding": "inference.encode",
    "Experiment": "workspace",
    "Fit": "inference.fit.fitting",
    "FitOptions": "inference.fit.options",
    "InputError": "errors",
    "MeshError": "errors",
    "MeshSDF": "geometry.sdf.mesh_sdf",
    "Meshing": "geometry.isosurface.options",
    "MetricOptions": "metrics.pair",
    "NoSurfaceError": "errors",
    "Normalization": "geometry.meshes",
    "SDFError": "metrics.fields",
    "SDFSamples": "geometry.sdf.sampling",
    "Sampling": "pipeline.preprocess",
    "Scan": "geometry.scanning.scan",
    "Shape": "inference.space",
    "ShapeSpace": "inference.space",
    "Specs": "specs",
    "SurfaceMetrics": "metrics.surfaces",
    "TrainingError": "errors",
    "TrainingOptions": "training.options",
    "chamfer": "metrics.surfaces",
    "compare": "metrics.surfaces",
    "encode": "inference.encode",
    "evaluate": "pipeline.evaluate",
    "load_mesh": "geometry.meshes",
    "load_scan": "geometry.scanning.files",
    "polygonize": "geometry.isosurface.polygonize",
    "preprocess": "pipeline.preprocess",
    "reconstruct": "pipeline.reconstruct",
    "sample_sdf": "geometry.sdf.sampling",
    "sample_surface": "geometry.sdf.sampling",
    "save_mesh": "geometry.meshes",
    "scan": "geometry.scanning.scan",
    "sdf_error": "metrics.fields",
    "signed_distance": "geometry.sdf.mesh_sdf",
    "train": "training.train",
}

__all__ = ["__version__", *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'deepsdf' has no attribute {name!r}")
    return getattr(import_module(f"deepsdf.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
