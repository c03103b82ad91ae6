"""deepsdf: learned signed distance functions.

From a folder of meshes, however broken, to a shape space: an auto-decoder network in which every shape is a short
latent code (Park et al., DeepSDF, CVPR 2019). SDFs are negative inside; the unit frame is the unit sphere.

The names below are the public API (docs/api.md). Each is imported on first use, so that `import deepsdf` stays fast.
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
    from deepsdf.figures.completion import completion_picture as completion_picture
    from deepsdf.figures.latent_map import map_positions as map_positions
    from deepsdf.figures.pictures import unit_picture as unit_picture
    from deepsdf.geometry.fields import Field as Field
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
    from deepsdf.inference.edit.constraints import Region as Region
    from deepsdf.inference.edit.constraints import Size as Size
    from deepsdf.inference.edit.constraints import Through as Through
    from deepsdf.inference.edit.editing import Edit as Edit
    from deepsdf.inference.encode import EncodeOptions as EncodeOptions
    from deepsdf.inference.encode import Encoding as Encoding
    from deepsdf.inference.encode import encode as encode
    from deepsdf.inference.fit.options import FitOptions as FitOptions
    from deepsdf.inference.fit.result import Fit as Fit
    from deepsdf.inference.shape import Shape as Shape
    from deepsdf.inference.space import ShapeSpace as ShapeSpace
    from deepsdf.library.sources import list_shapes as list_shapes
    from deepsdf.library.truth import TrueShape as TrueShape
    from deepsdf.library.truth import true_shape as true_shape
    from deepsdf.metrics.fields import SDFError as SDFError
    from deepsdf.metrics.fields import sdf_error as sdf_error
    from deepsdf.metrics.generated_sets import generation_metrics as generation_metrics
    from deepsdf.metrics.options import MetricOptions as MetricOptions
    from deepsdf.metrics.surfaces import Chamfer as Chamfer
    from deepsdf.metrics.surfaces import SurfaceMetrics as SurfaceMetrics
    from deepsdf.metrics.surfaces import chamfer as chamfer
    from deepsdf.metrics.surfaces import compare as compare
    from deepsdf.pipeline.evaluate import evaluate as evaluate
    from deepsdf.pipeline.latent_map import latent_map as latent_map
    from deepsdf.pipeline.options import MapOptions as MapOptions
    from deepsdf.pipeline.options import Sampling as Sampling
    from deepsdf.pipeline.preprocess import preprocess as preprocess
    from deepsdf.pipeline.reconstruct import reconstruct as reconstruct
    from deepsdf.progress import Progress as Progress
    from deepsdf.rendering.camera import PictureOptions as PictureOptions
    from deepsdf.rendering.colours import slice_image as slice_image
    from deepsdf.rendering.film import save_film as save_film
    from deepsdf.rendering.render import error_picture as error_picture
    from deepsdf.rendering.render import render_mesh as render_mesh
    from deepsdf.rendering.render import render_points as render_points
    from deepsdf.rendering.sheet import grid_image as grid_image
    from deepsdf.rendering.sheet import save_image as save_image
    from deepsdf.specs import Specs as Specs
    from deepsdf.splits import ShapeName as ShapeName
    from deepsdf.splits import read_split as read_split
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
    "Edit": "inference.edit.editing",
    "EncodeOptions": "inference.encode",
    "Encoding": "inference.encode",
    "Experiment": "workspace",
    "Field": "geometry.fields",
    "Fit": "inference.fit.result",
    "FitOptions": "inference.fit.options",
    "InputError": "errors",
    "MapOptions": "pipeline.options",
    "MeshError": "errors",
    "MeshSDF": "geometry.sdf.mesh_sdf",
    "Meshing": "geometry.isosurface.options",
    "MetricOptions": "metrics.options",
    "NoSurfaceError": "errors",
    "Normalization": "geometry.meshes",
    "PictureOptions": "rendering.camera",
    "Progress": "progress",
    "Region": "inference.edit.constraints",
    "SDFError": "metrics.fields",
    "SDFSamples": "geometry.sdf.sampling",
    "Sampling": "pipeline.options",
    "Scan": "geometry.scanning.scan",
    "Shape": "inference.shape",
    "ShapeName": "splits",
    "ShapeSpace": "inference.space",
    "Size": "inference.edit.constraints",
    "Specs": "specs",
    "SurfaceMetrics": "metrics.surfaces",
    "Through": "inference.edit.constraints",
    "TrainingError": "errors",
    "TrainingOptions": "training.options",
    "TrueShape": "library.truth",
    "chamfer": "metrics.surfaces",
    "compare": "metrics.surfaces",
    "completion_picture": "figures.completion",
    "encode": "inference.encode",
    "error_picture": "rendering.render",
    "evaluate": "pipeline.evaluate",
    "generation_metrics": "metrics.generated_sets",
    "grid_image": "rendering.sheet",
    "latent_map": "pipeline.latent_map",
    "list_shapes": "library.sources",
    "load_mesh": "geometry.meshes",
    "load_scan": "geometry.scanning.files",
    "polygonize": "geometry.isosurface.polygonize",
    "map_positions": "figures.latent_map",
    "preprocess": "pipeline.preprocess",
    "read_split": "splits",
    "reconstruct": "pipeline.reconstruct",
    "render_mesh": "rendering.render",
    "render_points": "rendering.render",
    "sample_sdf": "geometry.sdf.sampling",
    "sample_surface": "geometry.sdf.sampling",
    "save_film": "rendering.film",
    "save_image": "rendering.sheet",
    "save_mesh": "geometry.meshes",
    "scan": "geometry.scanning.scan",
    "sdf_error": "metrics.fields",
    "signed_distance": "geometry.sdf.mesh_sdf",
    "slice_image": "rendering.colours",
    "train": "training.train",
    "true_shape": "library.truth",
    "unit_picture": "figures.pictures",
}

__all__ = ["__version__", *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'deepsdf' has no attribute {name!r}")
    return getattr(import_module(f"deepsdf.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
