"""The HTML page of an evaluation."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import EXTENTS, TEST, World, few_samples, run
from report_helpers import HOSTILE, SHAPES, made, page_once, small_pictures

from deepsdf import InputError
from deepsdf.figures.options import ReportOptions
from deepsdf.figures.report import report
from deepsdf.figures.report.contents import CURVE, curve, error_maximum, flat
from deepsdf.figures.report.page import SCRIPTS, asset, duration, figure, json_block
from deepsdf.library.scores import read_metrics_csv
from deepsdf.metrics.registry import METRICS
from deepsdf.splits import ShapeName, write_split
from deepsdf.workspace import DataSource, Experiment

pytest_plugins = ("helpers", "report_helpers")

TALL, WIDE = TEST
EVALUATE = "deepsdf evaluate -e exp -d data -s test.json"


class Page(HTMLParser):
    """The elements of a page, as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # of script and style too
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("img", "input", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        found = [attrs for name, attrs in self.elements if name == tag]
        return [attrs for attrs in found if all(attrs.get(name) == value for name, value in attributes.items())]

    def content(self) -> dict[str, Any]:
        """Values that the page's scripts receive."""
        scripts = [text for tag, text in self.texts if tag == "script" and text.startswith('{"metrics"')]
        return json.loads(scripts[0])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)


@pytest.fixture(scope="module")
def text() -> str:
    return page_once().read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def rows_of(world: World) -> list[dict[str, str]]:
    with (world.root / "exp/Evaluation/latest/metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mesh_of(world: World, shape: ShapeName) -> Path:
    return world.experiment.reconstructed_mesh_path(200, shape)


def card(text: str, instance: str) -> str:
    """The HTML of a shape's card."""
    cards = re.findall(r"<li class=\"card.*?</li>", text, re.DOTALL)
    (found,) = [each for each in cards if f">{instance}</" in each]
    return found


# What is on it


def test_every_shape_has_a_card_failures_first_then_worst_first(page: Page) -> None:
    shapes = page.content()["shapes"]
    assert {shape["name"] for shape in shapes} == {str(shape) for shape in SHAPES}
    assert [shape["status"] for shape in shapes] == ["failed"] * 2 + ["ok"] * 6
    chamfers = [shape["values"]["chamfer"] for shape in shapes[2:]]
    assert chamfers == sorted(chamfers, reverse=True)
    assert [each["data-number"] for each in page.all("li") if "data-number" in each] == [
        str(shape["number"]) for shape in shapes
    ]


def test_values_equal_those_of_the_evaluation(evaluated: World) -> None:
    _, text = made()
    shapes = {shape["name"]: shape for shape in Page(text).content()["shapes"]}
    for row in rows_of(evaluated):
        values = shapes[row["shape"]]["values"]
        assert values == {name: float(row[name]) for name in METRICS if row[name] and row["status"] == "ok"}
    summary = json.loads((evaluated.root / "exp/Evaluation/latest/summary.json").read_text())
    table = re.findall(r"<tr>\n<th scope=\"row\"><span class=\"name\">(.*?) <.*?</tr>", text, re.DOTALL)
    assert table == [METRICS[name].heading.replace("'", "&#39;") for name in METRICS]
    for name, statistics in summary["metrics"].items():
        metric = METRICS[name]
        (line,) = re.findall(rf"<th scope=\"row\"><span class=\"name\">{re.escape(metric.heading)} <span.*?</tr>",
                             text.replace("&#39;", "'"), re.DOTALL)  # fmt: skip
        cells = re.findall(r"<td.*?>(.*?)</td>", line)
        printed = [figure(statistics[key], metric.factor, metric.decimals)
                   for key in ("mean", "median", "std", "p05", "p25", "p75", "p95", "min", "max")]  # fmt: skip
        low, high = (figure(end, metric.factor, metric.decimals) for end in statistics["mean_interval"])
        assert cells == [printed[0], f"[{low}, {high}]", *printed[1:], str(statistics["shapes"])]
    assert ">6<small> of 8</small>" in text
    assert ">2 failed<" in text


def test_every_shape_that_can_be_shown_has_its_pictures_and_meshes(page: Page) -> None:
    shapes = page.content()["shapes"]
    assert [shape["sides"] for shape in shapes] == [[]] * 2 + [["truth", "reconstruction"]] * 6
    pictures = [each for each in page.all("img") if each.get("width") == "64"]
    assert len(pictures) == 3 * 6
    for each in pictures:
        kind, _, content = each["src"].partition(",")
        assert kind == "data:image/webp;base64"
        assert base64.b64decode(content)[8:12] == b"WEBP"
    blocks = page.all("script", type="application/octet-stream")
    wanted = {f"mesh-{shape['number']}-{side}" for shape in shapes for side in shape["sides"]}
    assert {block["id"] for block in blocks} == wanted


def test_settings_verdicts_and_curves_are_shown(text: str, page: Page) -> None:
    said = {data.strip() for tag, data in page.texts if tag in ("dt", "dd")}
    assert {"NetworkSpecs › dims", "[32, 32, 32]", "LearningRateSchedule 2 › Factor", "emd_points", "50"} <= said
    assert '<th scope="row">training</th><td>4</td>' in text
    assert '<th scope="row">evaluated</th><td>8</td><td>6</td><td>0</td><td>0</td><td>2</td>' in text
    for shape in EXTENTS:
        assert f'<th scope="row">{shape}</th><td>ok</td>' in text
    charts = page.content()["charts"]
    assert [chart["key"] for chart in charts] == ["loss", "rates", "time", "codes"]
    assert [each["name"] for each in charts[1]["curves"]] == ["decoder", "codes"]
    assert "200" in said  # epochs


def test_pages_do_not_depend_on_the_number_of_workers(evaluated: World) -> None:
    """Every byte is determined by the files of the evaluation."""
    alone, text = made()
    several, again = made(workers=2, out="again.html")
    assert again == text
    assert several.size == alone.size == len(text.encode())


# Hostile content


def test_hostile_names_are_escaped(text: str, page: Page) -> None:
    for shape in HOSTILE:
        assert shape.instance not in text
        assert shape.category not in text
        assert any(shape.instance == data for tag, data in page.texts if tag == "h3")
        assert shape.instance in [each["instance"] for each in page.content()["shapes"]]
    assert not [each for each in page.all("img") if "onerror" in each]
    assert not page.all("b")
    assert len(page.all("script")) == 12 + 3  # meshes; data, three.js, the page's own


def test_json_never_ends_its_element() -> None:
    content = {"</script>": ["<!--<script>", "a&b", "\u2028\u2029", 'quo"te', "日本"]}
    block = json_block(content)
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block) == content
    with pytest.raises(ValueError, match="Out of range float"):
        json_block(float("nan"))


def test_the_policy_allows_only_the_scripts_of_the_page(page: Page) -> None:
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy
    assert "http" not in policy

    def hashed(code: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"

    code = [data for tag, data in page.texts if tag == "script" and not data.startswith("{") and len(data) > 5000]
    ours = [each for each in code if "three.js" in each[:40] or each.startswith('"use strict"')]
    assert set(rules["script-src"].split()) == {hashed(each) for each in ours}
    (style,) = [data for tag, data in page.texts if tag == "style"]
    assert rules["style-src"] == hashed(style)
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_the_page_makes_no_network_requests(page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/webp;base64,"))
    for name in ("style.css", *SCRIPTS):
        code = asset(name)
        for asking in ("url(", "@import", "import(", "fetch(", "XMLHttpRequest", "innerHTML", "eval("):
            assert asking not in code, f"{name}: {asking}"


@pytest.mark.parametrize("name", ["style.css", "three.min.js", *SCRIPTS])
def test_code_cannot_end_its_element(name: str) -> None:
    code = asset(name)
    assert not re.search(r"</(script|style)|<script|<!--", code, re.IGNORECASE)
    assert "\r" not in code


def test_three_js_includes_its_licence() -> None:
    assert asset("three.LICENSE").strip() in asset("three.min.js")
    assert "three@0.187.0" in asset("three.entry.js")
    assert asset("three.min.js").startswith("/*! three.js 0.187.0")


# Parts that are missing


def test_a_missing_or_broken_reconstruction_has_a_card(evaluated: World) -> None:
    mesh_of(evaluated, TALL).unlink()
    mesh_of(evaluated, WIDE).write_bytes(b"ply\nnothing")
    done, text = made()
    assert [failure.shape for failure in done.failures] == [TALL, WIDE]
    assert "there is no reconstruction at" in done.failures[0].reason
    assert "cannot be read as ply" in done.failures[1].reason
    shapes = {shape["name"]: shape for shape in Page(text).content()["shapes"]}
    for shape in TEST:
        assert shapes[str(shape)]["sides"] == ["truth"]
        assert shapes[str(shape)]["values"]["chamfer"]  # it was evaluated
        assert card(text, shape.instance).count("<img ") == 1
    assert "there is no reconstruction at" in card(text, "tall")


def test_samples_replace_a_missing_true_mesh(evaluated: World) -> None:
    (evaluated.root / "meshes").rename("elsewhere")
    done, text = made()
    assert not done.failures
    blocks = Page(text).all("script", type="application/octet-stream")
    assert {int(block["data-faces"]) for block in blocks if block["id"].endswith("-truth")} == {0}
    assert "surface samples are shown in place of the true mesh: " in card(text, "tall")
    assert card(text, "tall").count("<img ") == 3


def test_without_a_truth_the_reconstruction_is_shown(evaluated: World) -> None:
    evaluated.data.surface_path(TALL).unlink()
    done, text = made()
    assert [failure.shape for failure in done.failures] == [TALL]
    assert "there are no surface points at" in done.failures[0].reason
    (shape,) = [shape for shape in Page(text).content()["shapes"] if shape["name"] == str(TALL)]
    assert shape["sides"] == ["reconstruction"]
    (block,) = Page(text).all("script", id=f"mesh-{shape['number']}-reconstruction")
    assert block["data-value-max"] == "0.0"  # no distances to a truth


def test_without_log_verdicts_or_readable_settings(evaluated: World) -> None:
    (evaluated.root / "exp/Logs.pth").unlink()
    evaluated.data.quality_path.unlink()
    (evaluated.root / "exp/specs.json").write_text("{")
    done, text = made()
    assert not done.failures
    assert "there is no training log at exp/Logs.pth; `deepsdf train` writes it" in text
    assert "data/preprocess.csv has no verdicts on these shapes" in text
    assert "exp/specs.json is not a settings file" in text


def test_an_empty_log(evaluated: World) -> None:
    from deepsdf.checkpoints import write_pth
    from deepsdf.training.logs import TrainingLogs

    write_pth({evaluated.experiment.logs_path: TrainingLogs().content()})
    assert "exp/Logs.pth has no epochs yet" in made()[1]


def test_doubtful_shapes_come_first_with_their_picture(evaluated: World) -> None:
    path = evaluated.data.quality_path
    lines = path.read_text().splitlines()
    spoiled = {"toys/box/flat": ("rejected", "no sample lies inside"), "toys/egg/wide": ("doubtful", "2 holes & more")}
    for k, line in enumerate(lines):
        name, _, _, rest = line.split(",", 3)
        if name in spoiled:
            verdict, reason = spoiled[name]
            lines[k] = f"{name},{verdict},{reason},{rest}"
    path.write_text("\n".join(lines) + "\n")
    evaluated.data.picture_path(ShapeName("toys", "egg", "wide")).write_bytes(b"no picture")
    _, text = made()
    verdicts = re.findall(r"<tr><th scope=\"row\">(toys/\w+/\w+)</th><td>(?:ok|<span class=\"badge \w+\">(\w+))", text)
    assert verdicts[:2] == [("toys/box/flat", "rejected"), ("toys/egg/wide", "doubtful")]
    assert len(verdicts) == 6
    pictured = text.partition('<ul class="doubtful">')[2].partition("</ul>")[0]
    assert pictured.count("<li>") == pictured.count("<img ") == 1  # the other's picture is broken
    assert "toys/box/flat" in pictured
    assert "2 holes &amp; more" in text
    assert "doubtful data" in card(text, "wide")


def test_a_changed_checkpoint_gives_a_notice(evaluated: World, caplog: pytest.LogCaptureFixture) -> None:
    summary = evaluated.root / "exp/Evaluation/latest/summary.json"
    summary.write_text(summary.read_text().replace('"epoch": 200', '"epoch": 100'))
    with caplog.at_level(logging.WARNING, "deepsdf"):
        _, text = made()
    words = "the checkpoint latest was epoch 100 when it was evaluated, but is epoch 200 now"
    assert words in caplog.text
    assert words in text
    assert "Reconstructions/100/" in text  # whose meshes are not there


# What cannot be used


def test_no_evaluation(evaluated: World) -> None:
    (evaluated.root / "exp/Evaluation/latest/metrics.csv").unlink()
    with pytest.raises(InputError) as caught:
        made()
    path = Path("exp/Evaluation/latest/metrics.csv")
    assert str(caught.value) == f"there is no file {path}; run `{EVALUATE}` to create it"
    with pytest.raises(InputError, match=r"run `deepsdf evaluate -e exp -c 100 -d data -s my.json` to create it$"):
        made(checkpoint=100, split="my.json")
    assert not list(evaluated.root.rglob("*.html"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("shape,status\n", "its columns differ; expected shape, status, reason, chamfer, "),
        ("", "it has no rows"),
        ("toys/box/tall,ok,\n", f"row 1 has 3 columns; expected {3 + len(METRICS)}"),
        ("toys/../tall,ok," + "," * len(METRICS), "row 1: the name '..' would leave its folder"),
        (
            "toys/tall,ok," + "," * len(METRICS),
            "row 1 is 'toys/tall', 'ok'; expected dataset/class/instance, and 'ok' or 'failed'",
        ),
        ("toys/box/tall,fine," + "," * len(METRICS), "row 1 is 'toys/box/tall', 'fine'"),
        ("toys/box/tall,ok,,nan" + "," * (len(METRICS) - 1), "row 1 has a value that is not finite"),
        ("toys/box/tall,ok,,few" + "," * (len(METRICS) - 1), "row 1: could not convert string to float: 'few'"),
    ],
)
def test_invalid_metrics_csv(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "metrics.csv"
    header = ",".join(["shape", "status", "reason", *METRICS]) + "\n"
    path.write_text(line if line.startswith("shape") else header + line)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read_metrics_csv(path)
    assert str(caught.value).startswith(f"{path} is not a metrics.csv as `deepsdf evaluate` writes it")


def test_metrics_csv_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is not a metrics\.csv as `deepsdf evaluate` writes it: "):
        read_metrics_csv(tmp_path / "metrics.csv")


def test_rows_are_read_as_they_were_written(evaluated: World) -> None:
    rows = read_metrics_csv("exp/Evaluation/latest/metrics.csv")
    assert [row.shape for row in rows] == SHAPES
    for row, text in zip(rows, rows_of(evaluated), strict=True):
        assert row.status == text["status"]
        assert row.reason == text["reason"]
        assert all(float(text[name]) == value for name, value in row.metrics.items())


def test_invalid_summary(evaluated: World) -> None:
    path = evaluated.root / "exp/Evaluation/latest/summary.json"
    path.write_text("[]")
    with pytest.raises(InputError) as caught:
        made()
    file = "exp/Evaluation/latest/summary.json"
    form = "is not a summary.json as `deepsdf evaluate` writes it: no 'epoch'"
    assert str(caught.value) == f"{file} {form}; run `{EVALUATE}` to create it"


def test_missing_data_source(evaluated: World) -> None:
    (evaluated.root / "data").rename("moved")
    with pytest.raises(InputError, match=r"^cannot open the data source of exp/specs\.json: .*; pass --data$"):
        report(Experiment.open("exp"))
    done = report(Experiment.open("exp"), DataSource.open("moved"))
    assert not done.failures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faces": -1}, "faces is -1; it must be at least 0"),
        ({"max_mb": 0}, "max_mb is 0; it must be greater than 0"),
        ({"error_max": 0.0}, "error_max is 0.0; it must be greater than 0"),
        ({"error_max": float("inf")}, "error_max is inf; expected a finite number"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        ReportOptions(**options)


# The split, the size, the verb


def test_a_split_chooses_the_shapes(evaluated: World) -> None:
    stranger = ShapeName("toys", "box", "stranger")
    write_split("some.json", [WIDE, stranger])
    done, text = made(split="some.json", out="some.html")
    assert done.path == Path("some.html")
    assert done.shapes == 2
    shapes = {shape["name"]: shape for shape in Page(text).content()["shapes"]}
    assert list(shapes) == [str(stranger), str(WIDE)]
    assert shapes[str(stranger)]["reason"] == "not evaluated; run `deepsdf evaluate -e exp -d data -s some.json`"
    assert ">1<small> of 2</small>" in text
    write_split("none.json", [stranger])
    with pytest.raises(InputError, match=r"none of the 1 shapes of none.json is in exp/Evaluation/latest/metrics.csv"):
        made(split="none.json")


@pytest.mark.parametrize("max_mb", [0.83, 0.9, 1.2])
def test_the_size_limit_is_met(evaluated: World, max_mb: float) -> None:
    done, text = made(ReportOptions(max_mb=max_mb))
    assert done.size <= max_mb * 1e6
    assert not done.failures
    assert text.count('width="64"') == 3 * 6


def test_a_size_limit_that_cannot_be_met(evaluated: World) -> None:
    with pytest.raises(InputError) as caught:
        made(ReportOptions(max_mb=0.5))
    needed = re.fullmatch(
        r"a report of 8 shapes does not fit into 0\.5 MB; pass --max-mb (\d\.\d) or more, or a --split with "
        r"fewer shapes",
        str(caught.value),
    )
    assert needed
    assert not list(evaluated.root.rglob("*.html"))
    assert made(ReportOptions(max_mb=float(needed[1])))[0].size <= float(needed[1]) * 1e6


def test_number_of_faces(evaluated: World) -> None:
    blocks = Page(made(ReportOptions(faces=500))[1]).all("script", type="application/octet-stream")
    assert len(blocks) == 12
    assert max(int(block["data-faces"]) for block in blocks) <= 500
    _, text = made(ReportOptions(faces=0))
    assert not Page(text).all("script", type="application/octet-stream")
    assert "no 3D view" not in text
    _, text = made(ReportOptions(faces=299))
    assert (
        text.count("no 3D view: the size limit of the report leaves no room for it") == 6 * 3
    )  # words and their title; for the scripts


def test_end_of_the_error_scale(evaluated: World) -> None:
    assert Page(made(ReportOptions(error_max=0.123))[1]).content()["error"]["max"] == 0.123
    rows = read_metrics_csv("exp/Evaluation/latest/metrics.csv")
    known = [row.metrics["hausdorff_95"] for row in rows if row.metrics]
    high = float(np.quantile(np.array(known, np.float64), 0.9))
    assert high <= error_maximum(rows) <= 2 * high
    assert error_maximum([row for row in rows if not row.metrics]) == 1.0


def test_the_verb(evaluated: World, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    result = run("report", "-e", "exp", "--threads", 1)
    path = Path("exp/Evaluation/latest/report.html")
    size = path.stat().st_size / 1e6
    assert f"Wrote {path}: 8 shapes, {size:.1f} MB; open it in a browser" in result.output
    mesh_of(evaluated, TALL).unlink()
    result = run("report", "-e", "exp", "-d", "data", "-s", "test.json", "-o", "r.html", "--faces", 0, "--threads", 1,
                 status=1)  # fmt: skip
    assert "error: toys/box/tall: there is no reconstruction at" in result.output
    assert Path("r.html").is_file()
    result = run("report", "-e", "exp", "-c", "100", status=2)
    assert f"run `{EVALUATE.replace('-e exp', '-e exp -c 100')}` to create it" in result.output


# Small parts


def test_a_curve_is_short_and_keeps_its_extremes() -> None:
    values = np.random.default_rng(0).normal(size=12_345)
    found = curve(values, 0.25)
    assert len(found["x"]) == CURVE
    assert min(found["low"]) == pytest.approx(values.min(), rel=1e-4)
    assert max(found["high"]) == pytest.approx(values.max(), rel=1e-4)
    assert np.mean(found["y"]) == pytest.approx(values.mean(), abs=1e-3)
    assert found["x"][0] == pytest.approx(0.25 * (1 + 12), rel=1e-3)  # the middle of the first 25
    few = curve(np.array([3.0, np.nan, 5.0]))
    assert few == {"x": [1, 3], "y": [3, 5], "low": [3, 5], "high": [3, 5]}
    assert curve(np.zeros(0)) == {"x": [], "y": [], "low": [], "high": []}


def test_nested_settings_are_flattened() -> None:
    content = {"a": {"b": [1, 2], "c": {}}, "d": [{"e": "x"}, {"e": None}], "f": True}
    assert flat(content) == [("a › b", "[1, 2]"), ("a › c", "{}"), ("d 1 › e", "x"), ("d 2 › e", "null"), ("f", "true")]


def test_numbers_in_words() -> None:
    assert figure(None) == "–"
    assert figure(0.0001234, 1e3, 3) == "0.123"
    assert [duration(seconds) for seconds in (45, 89.6, 720, 12_000)] == ["45 s", "90 s", "12 min", "3 h 20 min"]
