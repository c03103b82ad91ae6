"""A map of all shapes: their codes in the plane, with pictures of some.

python examples/06_latent_map.py [EXPERIMENT] [--out PICTURE]
"""

import argparse

import numpy as np

import deepsdf
from deepsdf.pipeline.latent_map import latent_map, positions

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("experiment", nargs="?", default="demo-output/experiment")
parser.add_argument("--out", default="06_latent_map.png")
parser.add_argument("--thumbnails", type=int, default=60)
args = parser.parse_args()

space = deepsdf.ShapeSpace.load(args.experiment)
places = positions(space.trained_codes.cpu().numpy(), "pca")  # (n, 2), for a drawing of one's own
farthest = int(np.linalg.norm(places, axis=1).argmax())
print(f"{len(places)} training shapes; farthest from the middle of the map is number {farthest}")

latent_map(deepsdf.Experiment.open(args.experiment), args.out, colour_by="set", thumbnails=args.thumbnails)
