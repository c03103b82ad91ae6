"""Complete a partial scan: a virtual depth camera sees one side of a held-out shape, the space infers the rest.

    python examples/02_complete_a_scan.py [EXPERIMENT] [--out PICTURE]

Blue parts were seen; yellow to red parts are inferred, red where they are least certain.
"""

import argparse

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="02_complete_a_scan.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()

experiment = deepsdf.Experiment.open(args.experiment)
space = deepsdf.ShapeSpace.load(experiment)
data = deepsdf.DataSource.open(experiment.specs.data_source)
assert experiment.specs.test_split, "specs.json names no test split"
name = deepsdf.read_split(experiment.specs.test_split)[-1]

truth = deepsdf.true_shape(data, name).mesh  # unit frame
scan = deepsdf.scan(truth, camera=(1.0, 0.8, 2.6))  # in the unit frame; for other frames see CompletionOptions.pose

completion = space.complete(scan)
print(f"{name}: {completion.explained:.0%} of {len(scan)} points explained, residual {completion.residual:.4f}")
whole = completion.mesh(args.resolution)  # in the scan's frame, with `seen` and `spread` of every vertex
deepsdf.save_image(args.out, deepsdf.completion_picture(completion, whole, truth=truth, size=240))
