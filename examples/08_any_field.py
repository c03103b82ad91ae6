"""Mesh and draw any function of points, here a gyroid inside a ball. No training, no experiment.

python examples/08_any_field.py [--out PICTURE]
"""

import argparse

import numpy as np

import deepsdf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", default="08_any_field.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()


def field(points: np.ndarray) -> np.ndarray:
    """Approximate signed distance (n,) of points (n, 3), negative inside: a thick gyroid sheet cut by a ball."""
    x, y, z = 8.0 * points.T
    gyroid = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    sheet = np.abs(gyroid) / 14.0 - 0.03
    ball = np.linalg.norm(points, axis=1) - 0.9
    return np.maximum(sheet, ball).astype(np.float32)


mesh = deepsdf.polygonize(field, args.resolution)
print(f"{len(mesh.faces)} faces, closed: {mesh.is_watertight}, area {mesh.area:.2f}")
shaded = deepsdf.render_mesh(mesh, deepsdf.PictureOptions(size=320), cut=("z", 0.1))
plane = deepsdf.slice_image(field, axis="z", offset=0.1, size=320)
deepsdf.save_image(args.out, deepsdf.grid_image([[shaded, plane]], column_labels=["mesh", "field on z = 0.1"]))
