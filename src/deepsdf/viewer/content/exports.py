"""What is shown, as a file's bytes."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from torch import Tensor
from trimesh.exchange.gltf import export_glb

from deepsdf.checkpoints import code_content, pth_bytes
from deepsdf.errors import InputError
from deepsdf.rendering.camera import CLAY

MESH_KINDS = (".ply", ".glb")


def mesh_bytes(mesh: trimesh.Trimesh, kind: str, colours: np.ndarray | None = None) -> bytes:
    """A mesh's file, with colours (v, 3) of its vertices where they are given."""
    if kind not in MESH_KINDS:
        raise InputError(f"meshes are saved as {' or '.join(MESH_KINDS)}, not {kind!r}")
    if kind == ".glb":
        return glb_bytes(mesh, colours)
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)
    found: Any = whole.export(file_type=kind[1:])
    return bytes(found)


def glb_bytes(mesh: trimesh.Trimesh, colours: np.ndarray | None = None) -> bytes:
    """A .glb with a matte material, which viewers would take for metal otherwise, and normals.

    glTF's colours of vertices are linear; `colours` (v, 3) uint8 are sRGB.
    """
    if colours is not None:
        colours = np.round(255 * (np.asarray(colours) / 255.0) ** 2.2).astype(np.uint8)
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)

    def matte(tree: dict[str, Any]) -> None:
        surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 0.9}
        if colours is None:
            surface["baseColorFactor"] = [*((channel / 255) ** 2.2 for channel in CLAY), 1.0]
        tree["materials"] = [{"pbrMetallicRoughness": surface, "doubleSided": True}]
        for each in tree["meshes"]:
            for primitive in each["primitives"]:
                primitive["material"] = 0

    return bytes(export_glb(trimesh.Scene([whole]), include_normals=True, tree_postprocessor=matte))


def code_bytes(code: Tensor) -> bytes:
    """A code (L,) as the original's file, a tensor (1, 1, L)."""
    return pth_bytes(code_content(code))


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture (h, w, 3 or 4) on white."""
    image = Image.fromarray(picture)
    if image.mode == "RGBA":
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image).convert("RGB")
    with io.BytesIO() as stream:
        image.save(stream, "PNG")
        return stream.getvalue()


def file_stem(label: str) -> str:
    """A plain name for a file that a browser saves."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", label).strip("._")[:80] or "shape"
