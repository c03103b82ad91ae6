"""Reconstruct an unseen shape: fit its code to signed distances, then mesh the code.

    python examples/01_reconstruct.py [EXPERIMENT] [--out PICTURE]

EXPERIMENT is the folder that `make demo` writes, or any experiment with a data source and a test split.
"""

import argparse

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="01_reconstruct.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()

experiment = deepsdf.Experiment.open(args.experiment)
space = deepsdf.ShapeSpace.load(experiment)
data = deepsdf.DataSource.open(experiment.specs.data_source)
assert experiment.specs.test_split, "specs.json names no test split"
name = deepsdf.read_split(experiment.specs.test_split)[0]

samples = data.load_samples(name)  # written by `deepsdf preprocess`: points and signed distances
fit = space.fit(samples)
print(f"{name}: loss {fit.losses[0]:.5f} after {fit.steps[0]} steps, {fit.reasons[0]}")

mesh = space.shape(fit.codes[0]).mesh(args.resolution)
inside = deepsdf.render_points(samples.neg[:, :3], deepsdf.PictureOptions(size=320, bound=1.0))
pictures = [[inside, deepsdf.unit_picture(mesh)]]
deepsdf.save_image(args.out, deepsdf.grid_image(pictures, column_labels=["samples inside", "reconstruction"]))
