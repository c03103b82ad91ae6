"""Measure one surface against another, and see where they differ.

    python examples/07_measure.py [EXPERIMENT] [--out PICTURE]

The truth is a held-out shape's mesh, the surface that is judged the reconstruction from its samples.
"""

import argparse

import deepsdf
from deepsdf.library.sources import find_mesh
from deepsdf.rendering.render import PictureOptions, error_picture, save_image
from deepsdf.splits import read_split

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="07_measure.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()

experiment = deepsdf.Experiment.open(args.experiment)
space = deepsdf.ShapeSpace.load(experiment)
data = deepsdf.DataSource.open(experiment.specs.data_source)
name = read_split(experiment.specs.test_split)[0]

mesh = deepsdf.load_mesh(find_mesh(data.meshes_of(name.dataset), name))
truth = deepsdf.MeshSDF(deepsdf.Normalization.fit(mesh).apply_mesh(mesh))  # a field, in the unit frame
found = space.shape(space.fit(data.load_samples(name)).codes[0]).mesh(args.resolution)

metrics = deepsdf.compare(truth, found)
for metric in ("chamfer", "earth_mover_distance", "mesh_accuracy", "cosine_to_surface", "volumetric_iou"):
    print(f"{metric:22} {getattr(metrics, metric):.5f}")
save_image(
    args.out, error_picture(found, truth.distance, PictureOptions(size=360, bound=1.0), title="distance to the truth")
)
