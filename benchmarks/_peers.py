"""The peers of preprocess.py, each run in an interpreter that has them: `python _peers.py TOOL`. Knows no deepsdf.

It reads jobs as lines of JSON from stdin, `{"input": an .npz with vertices, faces and points, "output": an .npy}`,
and answers each on stdout with a line of JSON: `{"seconds": ...}` or `{"error": ...}`. A first line says
`{"version": ...}` once the tool is warm, or `{"error": ...}` where it cannot be imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np

Run = Callable[[np.ndarray, np.ndarray, np.ndarray], "np.ndarray | None"]
"""Vertices (v, 3) float64, faces (f, 3) int64, points (n, 3) float32 -> signed distances (n,): structure and query."""

VOTES = 11
"""Of open3d's rays, as many as DeepSDF's own preprocessing has votes. Its default is 1: up to twice as fast, and as
right on these meshes but for the one cut up (99.84 % against 99.92 %)."""


def open3d() -> Run:
    import open3d  # pyright: ignore[reportMissingImports]

    def run(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
        scene = open3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            open3d.core.Tensor(vertices.astype(np.float32)), open3d.core.Tensor(faces.astype(np.uint32))
        )
        return scene.compute_signed_distance(open3d.core.Tensor(points), nsamples=VOTES).numpy()

    return run


def point_cloud_utils() -> Run:
    import point_cloud_utils  # pyright: ignore[reportMissingImports]

    def run(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
        corners, triangles = vertices.astype(np.float32), faces.astype(np.int32)  # the faster of its types
        return point_cloud_utils.signed_distance_to_mesh(points, corners, triangles)[0]  # fast winding number

    return run


def libigl(sign: str) -> Run:
    import igl  # pyright: ignore[reportMissingImports]

    kind = getattr(igl, f"SIGNED_DISTANCE_TYPE_{sign}")
    return lambda vertices, faces, points: igl.signed_distance(points.astype(np.float64), vertices, faces, kind)[0]


def mesh_to_sdf() -> Run:
    import mesh_to_sdf  # pyright: ignore[reportMissingImports]
    import trimesh

    def run(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        return mesh_to_sdf.mesh_to_sdf(mesh, points, surface_point_method="sample", sign_method="normal")

    return run


TOOLS: dict[str, tuple[str, Callable[[], Run]]] = {
    "open3d": ("open3d", open3d),
    "point-cloud-utils": ("point-cloud-utils", point_cloud_utils),
    "libigl winding": ("libigl", lambda: libigl("FAST_WINDING_NUMBER")),
    "libigl normal": ("libigl", lambda: libigl("PSEUDONORMAL")),
    "mesh-to-sdf": ("mesh-to-sdf", mesh_to_sdf),
}
"""Name -> the package that has the version, and what imports it."""

SLOW = {"mesh-to-sdf"}
"""About a minute a mesh: one repeat, and no warm-up, which would change nothing."""


def serve(name: str, package: str, load: Callable[[], Run]) -> None:
    """Answer the jobs of stdin until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a tool prints must not come between the answers

    def answer(**values: object) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        run = load()
        if name not in SLOW:
            run(*_tiny())
        answer(version=metadata.version(package))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        return
    for line in sys.stdin:
        job = json.loads(line)
        try:
            with np.load(job["input"]) as arrays:
                mesh = arrays["vertices"], arrays["faces"], arrays["points"]
            start = time.perf_counter()
            distances = run(*mesh)
            seconds = time.perf_counter() - start
            if distances is not None:
                np.save(job["output"], distances)
            answer(seconds=seconds)
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")


def _tiny() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float64)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return vertices, faces, np.random.default_rng(0).random((100_000, 3), np.float32)


if __name__ == "__main__":
    serve(sys.argv[1], *TOOLS[sys.argv[1]])
