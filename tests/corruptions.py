"""Seeded corruptions of a clean mesh; each returns a new mesh. Used by test_corruptions.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh

from deepsdf.geometry.sdf.mesh_sdf import MeshSDF

Mesh = trimesh.Trimesh


def build(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    return trimesh.Trimesh(vertices, faces, process=False)


def concatenate(meshes: Sequence[Mesh]) -> Mesh:
    """`trimesh.util.concatenate` with a precise type."""
    joined = trimesh.util.concatenate(list(meshes))
    assert isinstance(joined, Mesh)
    return joined


def subdivided(mesh: Mesh, max_edge: float) -> Mesh:
    """`subdivide_to_size` with a precise type."""
    finer = mesh.subdivide_to_size(max_edge)
    assert isinstance(finer, Mesh)
    return finer


def doubled(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return build(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def flipped(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    turn = rng.random(len(mesh.faces)) < 0.5
    return build(mesh.vertices, np.where(turn[:, None], mesh.faces[:, ::-1], mesh.faces))


def inside_out(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return build(mesh.vertices, mesh.faces[:, ::-1])


def thinned(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return build(mesh.vertices, mesh.faces[rng.random(len(mesh.faces)) >= 0.02])


def join(*parts: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return build(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
    )


def deepest(mesh: Mesh, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """The deepest of random candidates inside the mesh, and its depth."""
    low, high = mesh.bounds
    points = rng.uniform(low, high, (4000, 3)).astype(np.float32)
    depth = -MeshSDF(mesh, sign="winding")(points)
    return points[depth.argmax()], float(depth.max())


def inner_faces(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    middle, depth = deepest(mesh, rng)
    corners = middle + rng.normal(0, 0.3 * depth, (60, 3)).clip(-0.5 * depth, 0.5 * depth)
    return join(mesh, build(corners, np.arange(60).reshape(20, 3)))


def inner_box(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    middle, depth = deepest(mesh, rng)
    box = trimesh.creation.box(np.full(3, depth))
    return join(mesh, build(box.vertices + middle, box.faces))


def inner_box_inward(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    middle, depth = deepest(mesh, rng)
    box = trimesh.creation.box(np.full(3, depth))
    return join(mesh, build(box.vertices + middle, box.faces[:, ::-1]))


def soup(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    corners = mesh.vertices[mesh.faces[rng.permutation(len(mesh.faces))]].reshape(-1, 3)
    order = rng.permutation(len(corners))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    return build(corners[order], place.reshape(-1, 3))


def jittered(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    moved = rng.random(len(mesh.vertices)) < 0.01
    return build(mesh.vertices + moved[:, None] * rng.normal(0, 0.01, mesh.vertices.shape), mesh.faces)


def strays(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    centers = rng.normal(size=(20, 3))
    centers *= rng.uniform(1.0, 1.2, (20, 1)) / np.linalg.norm(centers, axis=1, keepdims=True)
    corners = (centers[:, None] + rng.normal(0, 0.05, (20, 3, 3))).reshape(-1, 3)
    return join(mesh, build(corners, np.arange(60).reshape(20, 3)))


def holed(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """One round hole of 3 % of the area."""
    middles = mesh.triangles_center
    order = np.argsort(np.linalg.norm(middles - middles[rng.integers(len(middles))], axis=1))
    gone = order[np.cumsum(mesh.area_faces[order]) < 0.03 * mesh.area]
    return build(mesh.vertices, np.delete(mesh.faces, gone, axis=0))


def bottomless(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """The lowest 10 % of the area removed."""
    order = np.argsort(mesh.triangles_center[:, 1])
    gone = order[np.cumsum(mesh.area_faces[order]) < 0.10 * mesh.area]
    return build(mesh.vertices, np.delete(mesh.faces, gone, axis=0))


def cut_up(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """200 disconnected patches, gaps of 1e-4 between them, each flipped at random."""
    middles = mesh.triangles_center
    seeds = middles[rng.choice(len(middles), 200, replace=False)]
    label = np.linalg.norm(middles[:, None] - seeds[None], axis=2).argmin(axis=1)
    turn = (rng.random(200) < 0.5)[label]
    faces = np.where(turn[:, None], mesh.faces[:, ::-1], mesh.faces)
    used, faces = np.unique(faces + label[:, None] * len(mesh.vertices), return_inverse=True)
    patch, vertex = used // len(mesh.vertices), used % len(mesh.vertices)
    vertices = mesh.vertices[vertex]
    inward = seeds[patch] - vertices
    inward /= np.maximum(np.linalg.norm(inward, axis=1, keepdims=True), 1e-9)
    return build(vertices + 0.5e-4 * inward, faces.reshape(-1, 3))


def cut_up_doubled(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return doubled(cut_up(mesh, rng), rng)


def cut_up_thinned(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return thinned(cut_up(mesh, rng), rng)


def second_shell(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    """0.02 inside, less where the shape is thinner, wound inward."""
    field, normals = MeshSDF(mesh, sign="winding"), mesh.vertex_normals
    depth = np.full(len(mesh.vertices), 5e-4)
    for wanted in (0.002, 0.005, 0.01, 0.02):
        fits = field(mesh.vertices - wanted * normals) < -0.6 * wanted
        depth = np.where(fits & (field(mesh.vertices - depth[:, None] * normals) < 0), wanted, depth)
    return join(mesh, build(mesh.vertices - depth[:, None] * normals, mesh.faces[:, ::-1]))


def thinned_doubled_soup(mesh: Mesh, rng: np.random.Generator) -> Mesh:
    return soup(doubled(thinned(mesh, rng), rng), rng)


SUITE = {
    # corruption: percentage of correct signs, of all samples and of those farther than 0.02
    doubled: (99.99, 100.0),
    flipped: (99.99, 100.0),
    inside_out: (99.99, 100.0),
    thinned: (99.9, 99.99),
    inner_faces: (99.9, 99.99),
    inner_box: (99.9, 99.99),
    inner_box_inward: (99.9, 99.99),
    soup: (99.99, 100.0),
    jittered: (99.8, 99.99),
    strays: (99.9, 99.99),
    holed: (99.0, 99.6),
    bottomless: (97.0, 98.5),
    cut_up: (99.5, 99.9),
    cut_up_doubled: (99.0, 99.8),
    cut_up_thinned: (99.0, 99.8),
    second_shell: (99.5, 99.9),
    thinned_doubled_soup: (99.9, 99.99),
}
