"""Draw a map of all shapes: their codes in the plane, with pictures of some of them.

python examples/06_latent_map.py [EXPERIMENT] [--out PICTURE]
"""

import argparse

import numpy as np

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="06_latent_map.png")
parser.add_argument("--thumbnails", type=int, default=60)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
plane = deepsdf.map_positions(space.trained_codes.cpu().numpy(), "pca")  # (n, 2), for your own plots
farthest = int(np.linalg.norm(plane, axis=1).argmax())
print(f"{len(plane)} training shapes; the farthest from the centre of the map is number {farthest}")

options = deepsdf.MapOptions(colour_by="set", thumbnails=args.thumbnails)
deepsdf.latent_map(deepsdf.Experiment.open(args.experiment), args.out, options)
