"""Draw new shapes, by three priors: the codes' Gaussian, a mixture about training codes, blends of neighbours.

    python examples/04_sample.py [EXPERIMENT] [--out PICTURE]

`deepsdf sample` shows each beside its nearest training shape, and measures how good a set of them is.
"""

import argparse

import deepsdf
from deepsdf.figures.pictures import unit_picture
from deepsdf.rendering.render import grid_image, save_image

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
    rows.append([unit_picture(shape.mesh(args.resolution), 170) for shape in shapes])
save_image(args.out, grid_image(rows, row_labels=priors))
