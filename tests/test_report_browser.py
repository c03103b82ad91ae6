"""The report in a real browser, from disk: headless Chromium, driven by Playwright."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import trimesh
from browser import launched, need_chromium
from helpers import EXTENTS
from PIL import Image
from report_helpers import SHAPES, page_once, unpack

from deepsdf.figures.report.packing import for_view, pack
from deepsdf.figures.report.page import asset
from deepsdf.metrics.registry import METRICS

pytest_plugins = ("helpers", "report_helpers")

playwright = need_chromium("report")

DESK, PHONE = {"width": 1000, "height": 640}, {"width": 390, "height": 700}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from launched(playwright)


class Visit:
    """A page, its console errors, and its network requests."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self) -> Any:
        self.page.goto(page_once().as_uri())
        return self.page

    def close(self) -> None:
        """It must have been silent, and have asked the network nothing."""
        assert self.complaints == []
        asked = [url for url in self.requests if not url.startswith("data:image/webp;base64,")]
        assert set(asked) <= {page_once().as_uri()}
        self.context.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    visit.close()


@pytest.fixture
def page(visit: Visit) -> Any:
    return visit.open()


def shapes_of(page: Any) -> list[dict[str, Any]]:
    """The shapes in the data of the page."""
    return json.loads(page.locator("#content").text_content())["shapes"]


def shown(page: Any) -> list[str]:
    """Names on the visible cards, in order."""
    return page.locator(".card:visible h3").evaluate_all("all => all.map(each => each.textContent.trim())")


def pixels(target: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(target.screenshot())).convert("RGB")).astype(int)


def view(canvas: Any) -> np.ndarray:
    """Picture of the 3D view, without the focus ring."""
    return pixels(canvas)[10:-10, 10:-10]


def open_shape(page: Any, name: str) -> Any:
    """Click the pictures of a shape and return the canvas after the shape is drawn."""
    page.locator(".card", has=page.get_by_role("button", name=name, exact=True)).locator(".pictures").click()
    page.locator("#viewer").wait_for(state="visible")
    playwright.expect(page.locator("#viewer-message")).to_have_text("")
    return page.locator("#canvas")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the pixels that differ clearly."""
    return float((np.abs(a - b).max(axis=2) > 12).mean())


# The page


def test_it_opens_from_disk_without_errors(page: Any) -> None:
    playwright.expect(page).to_have_title("exp · deepsdf report")  # a hostile name did not get to change it
    assert page.locator("h1").text_content().endswith("/exp")
    pictures = page.locator(".card img")
    assert pictures.count() == 18
    loaded = pictures.evaluate_all(
        "all => Promise.all(all.map(each => { each.loading = 'eager'; return each.decode() }))"
    )
    assert len(loaded) == 18


def test_every_metric_sorts_both_ways(page: Any) -> None:
    shapes = shapes_of(page)
    for metric in METRICS.values():
        page.get_by_label("Sort by").select_option(metric.heading)
        sign = 1 if metric.direction == "lower" else -1
        worst = sorted(shapes, key=lambda shape: -sign * shape["values"].get(metric.name, sign * np.inf))
        values = [shape["values"].get(metric.name) for shape in worst]
        by_name = {shape["instance"]: shape["values"].get(metric.name) for shape in shapes}
        assert [by_name[instance] for instance in shown(page)] == values
        assert page.locator(".card .chosen dt").first.text_content() == metric.heading
        page.get_by_role("button", name="Worst first").click()
        assert [by_name[instance] for instance in shown(page)] == values[::-1]
        page.get_by_role("button", name="Best first").click()
    page.get_by_label("Sort by").select_option("name")
    plain = [instance for instance in shown(page) if instance.isalpha()]
    assert plain == [shape.instance for shape in sorted(EXTENTS)]
    page.get_by_role("button", name="A to Z").click()
    assert [instance for instance in shown(page) if instance.isalpha()] == plain[::-1]


def test_filters(page: Any) -> None:
    count = page.locator("#count")
    playwright.expect(count).to_have_text("8 of 8 shapes")
    page.get_by_label("Class").select_option("egg (3)")
    assert sorted(shown(page)) == ["long", "round", "wide"]
    page.get_by_label("Find").fill("LON egg")
    assert shown(page) == ["long"]
    playwright.expect(count).to_have_text("1 of 8 shapes")
    page.get_by_label("Find").fill("nowhere")
    assert shown(page) == []
    page.get_by_role("button", name="Show all").click()
    assert len(shown(page)) == 8
    page.get_by_label("Show").select_option("failed")
    assert set(shown(page)) == {shape.instance for shape in SHAPES if shape not in EXTENTS}
    assert "there is no reconstruction at" in page.locator(".card:visible .reason").first.text_content()
    page.get_by_label("Show").select_option("evaluated")
    assert len(shown(page)) == 6
    page.get_by_label("Show").select_option("doubtful data")
    playwright.expect(page.locator("#empty")).to_be_visible()


def test_charts_are_drawn_and_read_out(page: Any) -> None:
    for key in ("loss", "rates", "time", "codes"):
        chart = page.locator(f'[data-chart="{key}"]')
        assert len(chart.locator("path.line").first.get_attribute("d")) > 1000
        assert "over 200 epochs" in chart.get_attribute("aria-label")
    loss = page.locator('[data-chart="loss"] svg')
    loss.scroll_into_view_if_needed()
    loss.hover(position={"x": 450, "y": 100})
    playwright.expect(page.locator('[data-chart="loss"] .readout')).to_contain_text("epoch 9")
    histogram = page.locator('[data-chart="histogram"]')
    assert histogram.locator(".mark").count() == 6
    assert "Histogram of Chamfer × 10³ over 6 shapes" in histogram.get_attribute("aria-label")
    playwright.expect(page.locator("#histogram-left")).to_have_text("2 of 8 shapes have no value.")
    page.locator("#histogram-metric").select_option("Volumetric IoU")
    assert "Histogram of Volumetric IoU" in histogram.get_attribute("aria-label")
    mark = histogram.locator(".mark").first
    name = mark.locator("title").text_content().partition(":")[0]
    mark.click()
    playwright.expect(page.locator("#viewer-name")).to_have_text(name)


# The 3D view


def test_the_view_shows_rotates_and_resets(page: Any) -> None:
    canvas = open_shape(page, "tall")
    page.get_by_label("Truth", exact=True).check()
    home = view(canvas)
    assert 0.05 < difference(home, np.broadcast_to(home[30, 30], home.shape)) < 0.8  # a shape before its ground
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 90, middle[1] + 30, steps=5)
    page.mouse.up()
    turned = view(canvas)
    assert difference(home, turned) > 0.02
    page.get_by_role("button", name="Reset view").click()
    assert difference(home, view(canvas)) == 0
    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "+", "-", "ArrowRight"):
        before = view(canvas)
        page.keyboard.press(key)
        assert difference(before, view(canvas)) > 0.003, key
    page.keyboard.press("Home")
    assert difference(home, view(canvas)) == 0
    page.mouse.move(*middle)
    page.mouse.wheel(0, -400)
    assert difference(home, view(canvas)) > 0.02


def test_the_view_shows_each_side_and_its_errors(page: Any) -> None:
    canvas = open_shape(page, "wide")
    seen = {}
    for mode in ("both", "truth", "reconstruction", "error", "missed"):
        page.locator(f'#modes input[value="{mode}"]').check()
        seen[mode] = view(canvas)
    names = list(seen)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            assert difference(seen[one], seen[other]) > 0.005, (one, other)
    warmth = {mode: picture[..., 0] - picture[..., 2] for mode, picture in seen.items()}
    assert (warmth["truth"] < -20).mean() > 0.05  # clay is bluish
    assert (warmth["error"] > 20).mean() > 0.05
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert 0 <= float(page.locator("#probe").text_content()) < 0.2
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    playwright.expect(page.locator("#probe")).to_be_hidden()
    figures = page.locator("#viewer-figures dd").all_text_contents()
    (shape,) = [each for each in shapes_of(page) if each["instance"] == "wide"]
    assert figures[0] == f"{1000 * shape['values']['chamfer']:.3f}"
    assert len(figures) == len(METRICS)


def test_the_view_by_keyboard_alone(page: Any) -> None:
    page.get_by_label("Sort by").select_option("name")
    opener = page.get_by_role("button", name="cube", exact=True)
    opener.focus()
    page.keyboard.press("Enter")
    name = page.locator("#viewer-name")
    playwright.expect(name).to_have_text("cube")
    page.keyboard.press("n")
    playwright.expect(name).to_have_text("flat")
    playwright.expect(page.locator("#viewer-position")).to_have_text("2 / 6")  # of those that can be shown
    page.keyboard.press("p")
    page.keyboard.press("p")
    playwright.expect(name).to_have_text("wide")  # round the end
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#viewer")).to_be_hidden()
    assert opener.evaluate("each => each === document.activeElement")


def test_touch_turns_and_the_phone_has_room(browser: Any) -> None:
    visit = Visit(browser, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = visit.open()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    canvas = open_shape(page, "tall")
    before = view(canvas)
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = visit.context.new_cdp_session(page)
    for kind, shift in (("touchStart", 0), ("touchMove", 30), ("touchMove", 80), ("touchEnd", None)):
        points = [] if shift is None else [{"x": x + shift, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert difference(before, view(canvas)) > 0.01
    assert box["height"] > 250
    visit.close()


def test_without_webgl_there_is_a_message(browser: Any) -> None:
    visit = Visit(browser)
    visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page = visit.open()
    page.get_by_role("button", name="tall", exact=True).click()
    message = page.locator("#viewer-message")
    playwright.expect(message).to_have_text("The 3D view needs WebGL, which this browser does not support.")
    assert all("WebGL" in complaint for complaint in visit.complaints)
    visit.complaints.clear()
    visit.close()


@pytest.mark.parametrize("faces", [0, 300, 5000])
def test_the_page_unpacks_what_python_packs(browser: Any, faces: int) -> None:
    vertices, triangles = for_view(trimesh.creation.annulus(0.3, 0.8, 0.5), faces or 1000)
    mesh = pack(vertices, triangles if faces else triangles[:0], np.linalg.norm(vertices, axis=1))
    block = {
        "dataset": {"vertices": str(mesh.vertices), "faces": str(mesh.faces), "step": str(mesh.step),
                    "origin": " ".join(map(str, mesh.origin)), "valueMax": str(mesh.value_max)},
        "textContent": base64.b64encode(mesh.content).decode(),
    }  # fmt: skip
    page = browser.new_page()
    found = page.evaluate(
        f"""async (block) => {{
            {asset("mesh.js")}
            const mesh = await unpackMesh(block);
            return [mesh.positions, mesh.indices ?? [], mesh.values].map((each) => Array.from(each));
        }}""",
        block,
    )
    page.close()
    expected = unpack(mesh)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.array(one).ravel(), other.ravel(), rtol=1e-6, atol=1e-7)
    assert len(found[1]) == 3 * mesh.faces


# For everybody

CONTRASTS = """
() => {
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const low = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        if (element.closest(".skip, :disabled")) continue;
        const style = getComputedStyle(element);
        const front = rgba(element instanceof SVGElement ? style.fill : style.color);
        let behind = element;
        while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
        const back = rgba(behind ? getComputedStyle(behind).backgroundColor : "Canvas");
        const [one, other] = [light(front.slice(0, 3)), light(back.slice(0, 3))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) low.set(`${element.tagName}.${element.className} ${element.textContent.slice(0, 20)}`, ratio);
    }
    return [...low];
}
"""

NAMELESS = """
() => [...document.querySelectorAll("button, input, select, a, canvas, img, [role=region], [role=img]")]
    .filter((each) => !(each.textContent.trim() || each.ariaLabel || each.alt || each.labels?.length
        || each.getAttribute("aria-describedby")))
    .map((each) => each.outerHTML.slice(0, 120))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_accessible_names(browser: Any, scheme: str) -> None:
    visit = Visit(browser, color_scheme=scheme)
    page = visit.open()
    assert page.evaluate(CONTRASTS) == []
    assert page.evaluate(NAMELESS) == []
    open_shape(page, "tall")
    assert page.evaluate(CONTRASTS) == []
    visit.close()


def test_light_and_dark_by_system_and_by_choice(browser: Any) -> None:
    def brightness(page: Any) -> float:
        return float(pixels(page).mean())

    visit = Visit(browser, color_scheme="light")
    page = visit.open()
    light = brightness(page)
    page.emulate_media(color_scheme="dark")
    assert brightness(page) < 100 < 180 < light
    page.get_by_role("button", name="Light").click()
    assert brightness(page) == pytest.approx(light, abs=2)
    assert page.get_by_role("button", name="Light").get_attribute("aria-pressed") == "true"
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Dark").click()
    assert brightness(page) < 100
    page.get_by_role("button", name="Auto").click()
    assert brightness(page) == pytest.approx(light, abs=2)
    visit.close()


def test_without_scripts_it_is_still_a_page(browser: Any) -> None:
    visit = Visit(browser, java_script_enabled=False)
    page = visit.open()
    assert page.locator(".card:visible").count() == 8
    playwright.expect(page.locator(".tools")).to_be_hidden()
    playwright.expect(page.locator("noscript .notice")).to_be_visible()
    visit.close()


def test_the_policy_blocks_requests(browser: Any) -> None:
    """Even injected code could not send data."""
    visit = Visit(browser)
    page = visit.open()
    asked = page.evaluate("fetch('https://example.org/').then(() => 'let through', (error) => String(error))")
    assert asked.startswith("TypeError")
    assert "Content Security Policy" in visit.complaints[0]
    visit.complaints.clear()
    visit.requests[:] = [url for url in visit.requests if "example.org" not in url]
    visit.close()
