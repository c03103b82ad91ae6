"""Complete a partial scan: a virtual depth camera sees one side of a held-out shape, the space guesses the rest.

    python examples/02_complete_a_scan.py [EXPERIMENT] [--out PICTURE]

Blue was seen; yellow to red is guessed, the redder the less sure.
"""

import argparse

import deepsdf
from deepsdf.library.sources import find_mesh
from deepsdf.pipeline.complete import completion_picture, painted
from deepsdf.rendering.render import save_image
from deepsdf.splits import read_split

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="02_complete_a_scan.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()

experiment = deepsdf.Experiment.open(args.experiment)
space = deepsdf.ShapeSpace.load(experiment)
data = deepsdf.DataSource.open(experiment.specs.data_source)
name = read_split(experiment.specs.test_split)[-1]

mesh = deepsdf.load_mesh(find_mesh(data.meshes_of(name.dataset), name))
truth = deepsdf.Normalization.fit(mesh).apply_mesh(mesh)
scan = deepsdf.scan(truth, camera=(1.0, 0.8, 2.6))  # in the unit frame here; pose="similarity" finds any other

found = space.complete(scan)
print(f"{name}: {found.explained:.0%} of {len(scan)} points explained, residual {found.residual:.4f}")
whole = painted(found.mesh(args.resolution), found.scale)
save_image(args.out, completion_picture(found, whole, truth=truth, size=240))
