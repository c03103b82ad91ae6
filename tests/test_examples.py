"""Every numbered example runs, on a toy space, and draws its picture; the gallery shows each."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
from helpers import World, is_picture

pytest_plugins = ("helpers",)

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))

SMALL = {"06_latent_map": ["--thumbnails", "3"]}


def test_they_are_numbered() -> None:
    assert [path.name[:2] for path in EXAMPLES] == [f"{number:02d}" for number in range(1, len(EXAMPLES) + 1)]
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.match(r'"""[A-Z].*\n\n *python examples/' + path.name, path.read_text()), (
        "the docstring says how to run it"
    )
    experiment = [] if path.stem.startswith("08") else ["exp"]
    arguments = [*experiment, "--out", "made.png", *SMALL.get(path.stem, ["--resolution", "24"])]
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")
    assert is_picture(world.root / "made.png")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_use_the_public_api_only(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert [module for module in modules if module.startswith("deepsdf")] == ["deepsdf"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_gallery_shows_it(path: Path) -> None:
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    assert f"../examples/{path.name}" in gallery
    picture = ROOT / "docs" / "images" / "gallery" / f"{path.stem}.png"
    assert f"images/gallery/{path.stem}.png" in gallery
    assert is_picture(picture)
    assert picture.stat().st_size < 200_000


def test_the_gallery_is_light() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "docs" / "images" / "gallery").iterdir()) < 1_000_000
