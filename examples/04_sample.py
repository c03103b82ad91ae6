"""Draw new shapes from three priors: a Gaussian, a mixture around the training codes, and blends of neighbours.

    python examples/04_sample.py [EXPERIMENT] [--out PICTURE]

`deepsdf sample` also shows the nearest training shape of each, and evaluates the samples as a set.
"""

import argparse

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="04_sample.png")
parser.add_argument("--resolution", type=int, default=96)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
priors = ("gaussian", "mixture", "nearest")
rows = []
for prior in priors:
    shapes = space.sample(6, prior=prior, seed=1)
    rows.append([deepsdf.unit_picture(shape.mesh(args.resolution), 170) for shape in shapes])
deepsdf.save_image(args.out, deepsdf.grid_image(rows, row_labels=priors))
