"""What is shown, as a file's bytes."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from torch import Tensor

from deepsdf.checkpoints import pth_bytes
from deepsdf.errors import InputError

MESH_KINDS = (".ply", ".glb")


def mesh_bytes(mesh: trimesh.Trimesh, kind: str, colours: np.ndarray | None = None) -> bytes:
    """A mesh's file, with colours (v, 3) of its vertices where they are given."""
    if kind not in MESH_KINDS:
        raise InputError(f"meshes are saved as {' or '.join(MESH_KINDS)}, not {kind!r}")
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)
    found: Any = whole.export(file_type=kind[1:])
    return found.encode() if isinstance(found, str) else bytes(found)


def code_bytes(code: Tensor) -> bytes:
    """A code (L,) as the original's file, a tensor (1, 1, L)."""
    return pth_bytes(code.detach().cpu().float().reshape(1, 1, -1).clone())


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
