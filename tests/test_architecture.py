"""The building's plan: who may import whom, and a few promises about the whole source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deepsdf

SOURCE = Path(deepsdf.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS = [
    {"errors", "progress", "_version"},
    {"files", "devices", "options"},
    {"kernels", "network"},
    {"journal", "splits", "specs"},
    {"presets"},
    {"geometry"},
    {"workspace"},
    {"checkpoints"},
    {"metrics", "rendering", "samples", "solvers"},
    {"training", "inference"},
    {"library", "jobs"},
    {"figures"},
    {"pipeline"},
    {"viewer"},
    {"cli"},
    {"__main__"},
]
"""A package imports from its own layer and from the layers before it."""

INDEPENDENT = [
    {"network", "geometry"},
    {"solvers", "geometry"},
    {"solvers", "network"},
    {"training", "inference"},
    {"library", "jobs"},
]
"""Pairs of packages of which neither may import the other."""


def room_of(module: str) -> str:
    """`deepsdf.network.decoder` -> `network`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> list[str]:
    """Every module that a file imports, anywhere in it; `from deepsdf import files` counts as deepsdf.files."""
    package = ["deepsdf", *path.relative_to(SOURCE).parent.parts]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names] if module == "deepsdf" else [module]
    return found


def inside(path: Path) -> str:
    return room_of(".".join(["deepsdf", *path.relative_to(SOURCE).with_suffix("").parts]))


def breach(importer: str, imported: str) -> bool:
    layer = {package: level for level, packages in enumerate(LAYERS) for package in packages}
    return {importer, imported} in INDEPENDENT or layer[imported] > layer[importer]


def test_every_file_has_its_floor() -> None:
    rooms = {inside(path) for path in FILES} - {"__init__"}
    assert rooms == set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return  # the front door shows all rooms, and opens them late
    own = [module for module in imports(path) if module.split(".")[0] == "deepsdf"]
    breaches = [module for module in own if breach(inside(path), room_of(module))]
    assert not breaches


def test_the_rule_itself() -> None:
    assert breach("network", "geometry")
    assert breach("training", "inference")
    assert breach("specs", "workspace")
    assert breach("network", "specs")
    assert not breach("workspace", "specs")
    assert not breach("cli", "errors")


WARP_NAMES = {"get_warp", "compiled_kernels", "points_through", "to_device"}
"""What `kernels` has to launch Warp kernels; other packages use its functions of NumPy arrays."""


def test_only_kernels_uses_warp() -> None:
    for path in FILES:
        if inside(path) != "kernels":
            assert not [module for module in imports(path) if module.split(".")[0] == "warp"], path
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            assert not WARP_NAMES & {alias.name for node in nodes for alias in node.names}, path


def test_geometry_knows_no_torch() -> None:
    for path in (SOURCE / "geometry").rglob("*.py"):
        assert not [module for module in imports(path) if module.split(".")[0] == "torch"], path


def test_no_import_goes_in_a_circle() -> None:
    """Within a floor too, and at import time: what a function imports later may."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = ".".join(["deepsdf", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
        graph[name] = {node.module for node in top if node.module and node.module.startswith("deepsdf.")}
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for following in graph.get(module, ()):
                visit(following, [*way, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_import_is_light() -> None:
    heavy = ["torch", "warp", "matplotlib", "trimesh", "scipy", "skimage", "pydantic", "viser"]
    code = f"import deepsdf, sys; dir(deepsdf); print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in deepsdf.__all__:
        assert getattr(deepsdf, name) is not None
    assert set(deepsdf.__all__) <= set(dir(deepsdf))
    with pytest.raises(AttributeError, match=r"module 'deepsdf' has no attribute 'trian'"):
        deepsdf.trian  # noqa: B018
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(deepsdf.__all__) - {"__version__"} <= typed


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in nodes]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_promises_of_each_file(path: Path) -> None:
    for name, call in calls(path):
        if inside(path) != "cli":
            assert name not in {"print", "sys.exit", "exit", "input"}, f"line {call.lineno}: {name}"
        if path.name != "processes.py":  # whose pickles go between its own processes, never through a file
            assert not name.startswith(("pickle.", "marshal.", "yaml.")), f"line {call.lineno}: {name}"
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            assert options.get("weights_only") == "True", f"line {call.lineno}"
        if name == "np.load":
            assert options.get("allow_pickle") == "False", f"line {call.lineno}"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
