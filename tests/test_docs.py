"""The documentation: links that work, and the wording that `docs/glossary.md` fixes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import deepsdf

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, by GitHub's rule."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_measurement_page_is_listed() -> None:
    index = (ROOT / "docs" / "measurements" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs" / "measurements").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" in index} == pages


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "measurements").glob("*.md")), ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_measurement_has_a_date(page: Path) -> None:
    assert page.name == "README.md" or re.search(r"20\d\d-\d\d-\d\d", page.read_text(encoding="utf-8"))


def test_the_api_page_lists_every_public_name_once() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(set(deepsdf.__all__) - {"__version__"})


def test_every_public_name_has_a_docstring() -> None:
    for name in set(deepsdf.__all__) - {"__version__"}:
        value = getattr(deepsdf, name)
        assert inspect.getdoc(value), name
        for attribute in vars(value) if inspect.isclass(value) else ():
            member = inspect.getattr_static(value, attribute)
            member = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            if not attribute.startswith("_") and inspect.isfunction(member):
                assert member.__doc__, f"{name}.{attribute}"
