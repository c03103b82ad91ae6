"""Change a shape by constraints: 10 % narrower, 10 % wider.

    python examples/05_edit.py [EXPERIMENT] [--out PICTURE]

`Edit.doubt` says why a result is not what was requested, for example if no shape of the space meets the constraints.
"""

import argparse

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="05_edit.png")
parser.add_argument("--resolution", type=int, default=96)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
shape = space.shape(0)
width = float(shape.mesh(args.resolution).extents[0])

pictures, labels = [deepsdf.unit_picture(shape.mesh(args.resolution), 240)], ["before"]
for share in (0.9, 1.1):
    edit = space.edit(shape.code, [deepsdf.Size("x", share * width)])
    print(f"{share:.0%} of the width: {edit.doubt or 'done'}; moved {edit.moved:.2f} standard deviations per direction")
    pictures.append(deepsdf.unit_picture(edit.shape.mesh(args.resolution), 240))
    labels.append(f"{share:.0%} as wide" + ("" if edit.doubt is None else ": in doubt"))
deepsdf.save_image(args.out, deepsdf.grid_image([pictures], column_labels=labels))
