"""One registration for each metric: everything else follows from it."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from helpers import TEST, World, few_samples, run
from report_helpers import small_pictures

from deepsdf.figures.report import report
from deepsdf.metrics.registry import METRICS, Column, Metric
from deepsdf.metrics.surfaces import SurfaceMetrics
from deepsdf.metrics.tables import factors, markdown_table

pytest_plugins = ("helpers", "report_helpers")

EVALUATE = ("evaluate", "-e", "exp", "-d", "data", "-s", "test.json", "--points", 500, "--emd-points", 20)


def toy(**changes: object) -> Metric:
    metric = Metric(
        name="toy_reach",
        label="Toy reach",
        unit="length",
        direction="higher",
        definition="a toy",
        description="A toy that a test registers.",
        of_surfaces=lambda pair: pair.to_surface.farthest + 40,
        decimals=2,
        columns=(Column("toy\nreach", 2),),
        headline=True,
    )
    return replace(metric, **changes)  # pyright: ignore[reportArgumentType]


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line[:1] == "│"]


def test_one_registration_reaches_every_output(reconstructed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    few_samples(monkeypatch)
    small_pictures(monkeypatch)
    monkeypatch.setitem(METRICS, "toy_reach", toy())
    printed = run(*EVALUATE, "--no-picture").stdout
    folder = reconstructed.root / "exp/Evaluation/latest"
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [float(row["hausdorff"]) for row in rows], [float(row["toy_reach"]) for row in rows]
    assert all(40 < reach <= 40 + hausdorff for hausdorff, reach in zip(*expected, strict=True))
    assert list(rows[0])[-1] == "toy_reach"
    mean = sum(expected[1]) / len(TEST)
    summary = json.loads((folder / "summary.json").read_text())["metrics"]["toy_reach"]
    assert (summary["direction"], summary["shapes"], summary["mean"]) == ("higher", 2, pytest.approx(mean))
    assert rows_of(printed)[0][-1] == f"{mean:.2f}"
    written = report(reconstructed.experiment, reconstructed.data).path.read_text(encoding="utf-8")
    line = re.search(r'<span class="name">Toy reach .*?</tr>', written, re.DOTALL)
    assert line
    assert "A toy that a test registers." in line[0]
    assert f'<td class="main">{mean:.2f}</td>' in line[0]
    assert f'<p class="label">Toy reach</p>\n<p class="value">{mean:.2f}<small> mean</small></p>' in written
    assert written.count("<dt>Toy reach</dt>") == 2


def test_a_metric_of_the_field_is_registered_the_same_way(
    reconstructed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_samples(monkeypatch)
    monkeypatch.setitem(METRICS, "toy_field", toy(name="toy_field", of_surfaces=None, of_field=lambda pair: pair.clamp))
    assert rows_of(run(*EVALUATE, "--no-picture").stdout)[0][-1] == "0.10"


def test_entries_are_complete_and_distinct() -> None:
    assert [metric.name for metric in METRICS.values()] == list(METRICS)
    assert len({metric.heading for metric in METRICS.values()}) == len(METRICS)
    assert not set(METRICS) & {field.name for field in fields(SurfaceMetrics)}
    headings = [column.heading for metric in METRICS.values() for column in metric.columns]
    assert len(set(headings)) == len(headings)
    for metric in METRICS.values():
        assert metric.description.endswith(".")
        assert not metric.definition.endswith(".")


def test_registrations_that_are_wrong() -> None:
    with pytest.raises(ValueError, match=r"^metric 'toy_reach': give exactly one of of_surfaces and of_field$"):
        toy(of_field=lambda pair: pair.clamp)
    with pytest.raises(ValueError, match=r"^metric 'toy_reach': give exactly one of of_surfaces and of_field$"):
        toy(of_surfaces=None)
    with pytest.raises(ValueError, match=r"^metric 'toy_reach': factor is 7; expected one of \[1\.0, 1000\.0\]$"):
        toy(factor=7)


def test_factors_are_named() -> None:
    assert factors(METRICS.values()).split(", ")[0] == "chamfer × 10³"
    assert factors([toy()]) == ""


def test_the_documented_table_is_the_registry() -> None:
    """If this fails, copy `deepsdf.metrics.tables.markdown_table()` into docs/metrics.md."""
    page = (Path(__file__).parent.parent / "docs/metrics.md").read_text(encoding="utf-8")
    assert markdown_table() in page
