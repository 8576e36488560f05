"""`benchmark`: a row for each width and size, a latency on the CPU for each runtime."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from torch import nn

from tasks.common.cli.main import main
from tasks.common.runtime.device import device_of
from tasks.common.verbs import benchmark


def run(*words: str) -> int:
    return main("attributes", ["benchmark", *words])


def test_grid_by_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    grid = ("--widths", "0.25", "--sizes", "128", "--runtimes", "int8", "torch")
    assert run(*grid, "--json", "--out", str(out)) == 0
    rows = json.loads(capsys.readouterr().out)
    with (out / "benchmark.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [list(row) for row in (*rows, *written)] == [
        ["width", "input_size", "mult_adds", "num_params", "torch_ms", "int8_ms"]
    ] * 2
    assert [(row["width"], row["input_size"]) for row in rows] == [(0.25, 128)]
    assert rows[0]["mult_adds"] == pytest.approx(13.32, abs=0.005)  # Table 12 prints 15
    assert all(0 < row[f"{runtime}_ms"] < 10_000 for row in rows for runtime in ("torch", "int8"))
    assert cv2.imread(str(out / "benchmark.png")) is not None


def test_table_and_rank_correlation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("--widths", "0.25", "--sizes", "160", "96", "32", "--runtimes", "torch")
    assert run(*grid, "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "latency of one image on the CPU" in printed
    assert "PyTorch, ms" in printed
    assert "ONNX" not in printed
    assert "rank correlation of mult-adds with latency, PyTorch: " in printed


def test_all_runtimes_are_timed_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[nn.Module] = []

    def call_of(network: nn.Module, _: int) -> Callable[[], None]:
        timed.append(network)
        return lambda: None

    monkeypatch.setattr(benchmark, "call_of", call_of)
    grid = ("--widths", "0.25", "--sizes", "64", "--runtimes", "torch", "onnx")
    assert run(*grid, "--out", str(tmp_path / "out")) == 0
    assert [device_of(network).type for network in timed] == ["cpu", "cpu"]
