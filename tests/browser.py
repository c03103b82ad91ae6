"""A real browser for tests: headless Chromium, driven by Playwright. Where there is none the module that asks skips."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def need_chromium(what: str) -> Any:
    """Playwright's module; or the calling test module is skipped, where CI runs an error."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            raise RuntimeError(f"the {what} is tested in Chromium, which .ci/run installs, and it is not there")
        pytest.skip("needs Chromium (Debian's package `chromium`), which is not installed", allow_module_level=True)
    return pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install deepsdf[test]")


def launched(playwright: Any) -> Iterator[Any]:
    """The body of a `browser` fixture."""
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
