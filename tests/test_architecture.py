"""The architecture: layers, import cycles, the file list of docs/architecture.md, and rules for the whole source."""

from __future__ import annotations

import ast
import re
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


def package_of(module: str) -> str:
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


def top_package(path: Path) -> str:
    return package_of(".".join(["deepsdf", *path.relative_to(SOURCE).with_suffix("").parts]))


def breach(importer: str, imported: str) -> bool:
    layer = {package: level for level, packages in enumerate(LAYERS) for package in packages}
    return {importer, imported} in INDEPENDENT or layer[imported] > layer[importer]


def test_every_package_has_its_layer() -> None:
    packages = {top_package(path) for path in FILES} - {"__init__"}
    assert packages == set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_to_earlier_layers(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return  # lists the public names of all packages, and imports them on first use
    own = [module for module in imports(path) if module.split(".")[0] == "deepsdf"]
    breaches = [module for module in own if breach(top_package(path), package_of(module))]
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
        if top_package(path) != "kernels":
            assert not [module for module in imports(path) if module.split(".")[0] == "warp"], path
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            assert not WARP_NAMES & {alias.name for node in nodes for alias in node.names}, path


def test_geometry_does_not_import_torch() -> None:
    for path in (SOURCE / "geometry").rglob("*.py"):
        assert not [module for module in imports(path) if module.split(".")[0] == "torch"], path


def module_of(path: Path) -> str:
    return ".".join(["deepsdf", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")


def test_there_are_no_import_cycles() -> None:
    """Imports inside functions and under TYPE_CHECKING count, too. The public `__init__` is exempt: it lists all."""
    modules = {module_of(path) for path in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        found = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
        graph[module_of(path)] = (found | {str(node.module) for node in froms}) & modules - {"deepsdf"}
    graph["deepsdf"] = set()
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for imported in graph[module]:
                visit(imported, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_the_architecture_page_lists_every_file() -> None:
    text = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed, package = set(), ""
    for line in text[text.index("## Packages and files") :].splitlines():
        if line.startswith("### "):
            package = line.removeprefix("### ").replace("Base files", "").strip("/ ")
        elif found := re.match(r"\| `([\w]+\.py)` \|", line):
            listed.add(f"{package}/{found[1]}".lstrip("/"))
    files = {str(path.relative_to(SOURCE)).replace("\\", "/") for path in FILES}
    shown = {file for file in files if not file.endswith("__init__.py") or file in listed}
    assert listed == shown


def test_import_is_light() -> None:
    heavy = ["torch", "warp", "matplotlib", "trimesh", "scipy", "skimage", "pydantic", "viser"]
    code = f"import deepsdf, sys; dir(deepsdf); print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_is_importable() -> None:
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
def test_rules_for_each_file(path: Path) -> None:
    for name, call in calls(path):
        if top_package(path) != "cli":
            assert name not in {"print", "sys.exit", "exit", "input"}, f"line {call.lineno}: {name}"
        if path.name != "processes.py":  # whose pickles go between its own processes, never through a file
            assert not name.startswith(("pickle.", "marshal.", "yaml.")), f"line {call.lineno}: {name}"
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == "torch.load":
            assert options.get("weights_only") == "True", f"line {call.lineno}"
        if name == "np.load":
            assert options.get("allow_pickle") == "False", f"line {call.lineno}"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
