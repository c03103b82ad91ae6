"""Change a shape by saying what it should be like: a tenth narrower, a tenth wider.

    python examples/05_edit.py [EXPERIMENT] [--out PICTURE]

Constraints that no shape of the space keeps are said so, in `Edit.doubt`.
"""

import argparse

import deepsdf
from deepsdf.figures.pictures import unit_picture
from deepsdf.inference.edit.constraints import Size, extent
from deepsdf.rendering.render import grid_image, save_image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="05_edit.png")
parser.add_argument("--resolution", type=int, default=96)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
shape = space.shape(0)
left, right = extent(shape, "x")[:, 0]

pictures, labels = [unit_picture(shape.mesh(args.resolution), 240)], ["before"]
for share in (0.9, 1.1):
    edit = space.edit(shape.code, [Size("x", share * float(right - left))])
    print(f"{share:.0%} of the width: {edit.doubt or 'done'}; moved {edit.moved:.2f} standard deviations a direction")
    pictures.append(unit_picture(edit.shape.mesh(args.resolution), 240))
    labels.append(f"{share:.0%} as wide" + ("" if edit.doubt is None else ": in doubt"))
save_image(args.out, grid_image([pictures], column_labels=labels))
