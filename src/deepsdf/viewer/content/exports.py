"""Contents of the files that the page saves: meshes, codes and pictures."""

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
    """Content of a .ply or .glb file of a mesh.

    Args:
        kind: ".ply" or ".glb".
        colours: (v, 3) uint8 vertex colours, sRGB.
    """
    if kind not in MESH_KINDS:
        raise InputError(f"meshes cannot be saved as {kind!r}; use {' or '.join(MESH_KINDS)}")
    if kind == ".glb":
        return glb_bytes(mesh, colours)
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)
    found: Any = whole.export(file_type=kind[1:])
    return bytes(found)


def glb_bytes(mesh: trimesh.Trimesh, colours: np.ndarray | None = None) -> bytes:
    """Content of a .glb file with normals and a matte material (viewers render glTF's default material as metal).

    Args:
        colours: (v, 3) uint8 vertex colours, sRGB. glTF stores them linear: a gamma of 2.2 is removed.
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
    """Content of a code file: a tensor (1, 1, L), the original's format."""
    return pth_bytes(code_content(code))


def png_bytes(picture: np.ndarray) -> bytes:
    """Content of a .png file of a picture (h, w, 3 or 4) uint8, on a white background."""
    image = Image.fromarray(picture)
    if image.mode == "RGBA":
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image).convert("RGB")
    with io.BytesIO() as stream:
        image.save(stream, "PNG")
        return stream.getvalue()


def file_stem(label: str) -> str:
    """A label as a file name: letters, digits, `_`, `.` and `-` only."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", label).strip("._")[:80] or "shape"
