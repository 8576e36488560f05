"""The speed comparisons: rates and ratios by hand arithmetic, and each area on a tiny workload."""

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from results import cli
from results.bench.areas import AREAS, jobs_of
from results.bench.measure import Job, Result, Row, Timing, run_jobs, summarise
from results.bench.table import print_table

SIZES = {"batch_size": 2, "num_images": 2000}
DEFAULTS: dict[str, Any] = {"steps": 1, "sizes": SIZES, "images": None, "coco": None}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of a measuring process do not outlive the test."""
    monkeypatch.setattr("datasets.memory.keep_freed_memory", lambda: None)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_rates_are_of_the_median_step_and_ratios_of_rates() -> None:
    ours = [Timing(30, [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1.0}], {}), Timing(30, [{"a": 9.0, "b": 9.0}], {"x": 1})]
    theirs = [Timing(30, [{"a": 6.0}], {}), Timing(30, [{"a": 4.0}], {})]
    first, second = summarise({"ours": ours, "theirs": theirs}, "theirs")
    assert (first.per_second, second.per_second) == (30 / 3, 30 / 5)
    assert (first.ratio, second.ratio) == (pytest.approx(5 / 3), 1)
    assert first.parts == {"a": 2, "b": 1}
    assert first.details == {"x": 1}
    assert [row.ratio for row in summarise({"ours": ours}, "theirs")] == [None]


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.usefixtures("in_process")
def test_each_area_measures_ours_and_others(area: str, generated_roots: Callable[[str], Path]) -> None:
    roots = {"images": str(generated_roots("classification")), "coco": str(generated_roots("detection"))}
    sizes = SIZES | ({"num_images": 20} if area in ("evaluation", "look", "predict") else {})
    for job in jobs_of(area, **DEFAULTS | roots | {"sizes": sizes}):
        comparison, workload = job.comparison, dataclasses.replace(job.workload, warmup=0)
        names = list(comparison.implementations)
        measured = {names[0], names[-1], comparison.reference} - {None}
        assert measured <= set(names)
        assert names[0].startswith("ours")
        timings = {name: [comparison.measure(name, workload)] for name in names if name in measured}
        rows = {row.implementation: row for row in summarise(timings, comparison.reference)}
        assert all(row.per_second > 0 for row in rows.values())
        if comparison.reference is not None:
            reference = rows[comparison.reference]
            assert len(rows) >= 2
            assert reference.ratio == 1
            assert rows[names[0]].ratio == pytest.approx(rows[names[0]].per_second / reference.per_second)


def test_processes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(job: Job, implementation: str) -> Timing:
        order.append(implementation)
        return Timing(job.workload.size, [{"call": 1.0}], {})

    order: list[str] = []
    monkeypatch.setattr("results.bench.measure._measure_in_child", measure)
    jobs = jobs_of("postprocessing", **DEFAULTS)[:1]
    (result,) = run_jobs(jobs, rounds=3)
    assert order == ["ours", "torchvision"] * 3
    assert result.name == "SSD 300, 2 images one by one"


def test_command_measures_in_processes_and_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "cells", "--num_images", "2000", "--steps", "1", "--rounds", "1", "--json"]) == 0
    ids, cells = json.loads(capsys.readouterr().out)["results"]
    ours, others = ids["rows"]
    assert (ids["name"], others["implementation"]) == ("cell ids of 2,000 coordinates", "s2geometry, one by one")
    assert ours["ratio"] == pytest.approx(ours["per_second"] / others["per_second"])
    assert cells["rows"][0]["ratio"] is None
    assert cells["rows"][0]["details"]["num_cells"] > 0


def test_one_table_for_all_areas(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("ours", 1234.5, 2.0, {"divide": 0.75, "find": 0.25}, {"num_cells": 6, "kind": "flat"})
    other = Row("theirs", 0.5, None, {"call": 1}, {})
    print_table([Result("cells", "cells of photos", "photos", [row]), Result("loading", "batches", "images", [other])])
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "cells cells of photos ours 1,234 photos/s 2.00 1" in printed
    assert "loading batches theirs 0.5 images/s" in printed
    assert "1. divide 750 ms (75%), find 250 ms (25%), num_cells 6, kind flat" in printed


def test_a_missing_package_skips_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("results.bench.measure._measure_in_child", lambda *_: Timing(1, [{"call": 1.0}], {}))
    jobs = jobs_of("training", **DEFAULTS)[:1]
    with pytest.warns(UserWarning, match=r"timm is not installed, so these are skipped: timm, channels last, kept"):
        (result,) = run_jobs(jobs, rounds=1)
    assert [(row.implementation, row.ratio) for row in result.rows] == [
        ("ours, timm's padding", None),
        ("ours, TensorFlow's padding", None),
    ]


def test_errors_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "spech"]) == 2
    assert "there is no area 'spech'" in capfd.readouterr().err
    assert cli.main(["bench"]) == 2
    error = capfd.readouterr().err
    assert "expected one or more areas, or all" in error
    assert all(f"\n  {area}" in error for area in AREAS)
    assert cli.main(["bnech"]) == 2
    error = capfd.readouterr().err
    assert "there is no command 'bnech'" in error
    assert all(f"\n  {name}" in error for name in ("tables", "sweep", "bench"))
    with pytest.raises(SystemExit):
        cli.main(["bench", "cells", "--steps", "0"])
    assert "expected 1 or more, got 0" in capfd.readouterr().err
    assert cli.main(["bench", "loading", "--images", str(tmp_path), "--rounds", "1"]) == 1
    error = capfd.readouterr().err
    assert "expected a batch of 64 JPEG files or more, found 0" in error
    assert "Traceback" not in error


def test_flags_replace_the_sizes_of_an_area() -> None:
    (default,) = jobs_of("search", steps=None, sizes={}, images=None, coco=None)
    (given,) = jobs_of("search", **DEFAULTS | {"steps": 7})
    assert (default.workload.size, default.workload.steps) == (1_000_000, 3)
    assert (given.workload.size, given.workload.steps) == (SIZES["num_images"], 7)
