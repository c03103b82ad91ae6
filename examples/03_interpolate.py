"""Go from one shape to another, straight and over training shapes that lie between.

python examples/03_interpolate.py [EXPERIMENT] [--out PICTURE]
"""

import argparse

import deepsdf
from deepsdf.figures.pictures import unit_picture
from deepsdf.rendering.render import grid_image, save_image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="03_interpolate.png")
parser.add_argument("--resolution", type=int, default=96)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
away = (space.codes - space.codes[0]).norm(dim=1)
first, second = space.codes[0], space.codes[away.argmax()]  # the shape that is least like the first

rows = []
for path in ("linear", "prior"):
    shapes = space.interpolate(first, second, steps=6, path=path)
    rows.append([unit_picture(shape.mesh(args.resolution), 170) for shape in shapes])
save_image(args.out, grid_image(rows, row_labels=["linear", "prior"]))
