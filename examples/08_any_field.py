"""Any function of points can be meshed and drawn: here a gyroid in a ball. No training, no experiment.

python examples/08_any_field.py [--out PICTURE]
"""

import argparse

import numpy as np

import deepsdf
from deepsdf.rendering.render import PictureOptions, grid_image, render_mesh, save_image, slice_image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", default="08_any_field.png")
parser.add_argument("--resolution", type=int, default=128)
args = parser.parse_args()


def field(points: np.ndarray) -> np.ndarray:
    """Points (n, 3) -> signed distance (n,), about: negative inside a sheet along the gyroid, within a ball."""
    x, y, z = 8.0 * points.T
    gyroid = np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)
    sheet = np.abs(gyroid) / 14.0 - 0.03
    ball = np.linalg.norm(points, axis=1) - 0.9
    return np.maximum(sheet, ball).astype(np.float32)


mesh = deepsdf.polygonize(field, args.resolution)
print(f"{len(mesh.faces)} faces, closed: {mesh.is_watertight}, area {mesh.area:.2f}")
pictures = [
    [render_mesh(mesh, PictureOptions(size=320), cut=("z", 0.1)), slice_image(field, axis="z", offset=0.1, size=320)]
]
save_image(args.out, grid_image(pictures, column_labels=["mesh", "field on z = 0.1"]))
