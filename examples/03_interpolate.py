"""Interpolate between two shapes: along a straight line, and along training shapes in between.

python examples/03_interpolate.py [EXPERIMENT] [--out PICTURE]
"""

import argparse

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="03_interpolate.png")
parser.add_argument("--resolution", type=int, default=96)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
distances = (space.codes - space.codes[0]).norm(dim=1)
first, second = space.codes[0], space.codes[distances.argmax()]  # the shape whose code is farthest from the first

rows = []
for path in ("linear", "prior"):
    shapes = space.interpolate(first, second, steps=6, path=path)
    rows.append([deepsdf.unit_picture(shape.mesh(args.resolution), 170) for shape in shapes])
deepsdf.save_image(args.out, deepsdf.grid_image(rows, row_labels=["linear", "prior"]))
