"""Compare two surfaces: metrics, and a picture of where they differ.

    python examples/07_measure.py [EXPERIMENT] [--out PICTURE]

The reference is the mesh of a held-out shape; the other surface is its reconstruction from samples.
"""

import argparse

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="07_measure.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()

experiment = deepsdf.Experiment.open(args.experiment)
space = deepsdf.ShapeSpace.load(experiment)
data = deepsdf.DataSource.open(experiment.specs.data_source)
assert experiment.specs.test_split, "specs.json names no test split"
name = deepsdf.read_split(experiment.specs.test_split)[0]

truth = deepsdf.MeshSDF(deepsdf.true_shape(data, name).mesh)  # a field, in the unit frame
surface = space.shape(space.fit(data.load_samples(name)).codes[0]).mesh(args.resolution)

metrics = deepsdf.compare(truth, surface)
for metric in ("chamfer", "earth_mover_distance", "mesh_accuracy", "cosine_to_surface", "volumetric_iou"):
    print(f"{metric:22} {getattr(metrics, metric):.5f}")
options = deepsdf.PictureOptions(size=360, bound=1.0)
deepsdf.save_image(args.out, deepsdf.error_picture(surface, truth.distance, options, title="distance to the truth"))
