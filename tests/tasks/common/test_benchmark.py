"""`benchmark`: a row for each width, size, runtime, number of threads and batch size, beside the machine's own rate."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from tasks.common.benchmark.floor import MULT_ADDS, SIDE
from tasks.common.benchmark.report import Row
from tasks.common.benchmark.runtimes import RUNTIMES, Files, write_files
from tasks.common.cli.commands import COMMANDS
from tasks.common.cli.main import main
from tasks.common.deploy.formats.source import ConversionSource, Open, Run
from tasks.common.deploy.formats.table import FORMATS, Format
from tasks.common.runtime import extras
from tasks.common.verbs import benchmark

SIDE_PX = 128
SMALL = ("--widths", "0.25", "--sizes", str(SIDE_PX))
COLUMNS = ["width", "input_size", "mult_adds", "num_params", "runtime", "num_threads", "batch_size", "ms_per_image"]
COLUMNS += ["floor_rate", "predict_per_s", "images_per_s", "times_floor"]


def run(*words: str) -> int:
    return main("attributes", ["benchmark", *words])


def measure(out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    """The JSON of a benchmark, which the CSV file repeats."""
    capsys.readouterr()
    assert run(*words, "--json", "--out", str(out)) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    with (out / "benchmark.csv").open() as file:
        assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in rows]
    assert cv2.imread(str(out / "benchmark.png")) is not None
    return rows


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """A stand-in for LiteRT, which takes one image; the numbers of threads that its files were opened with."""
    numbers: list[int | None] = []

    def convert(source: ConversionSource, _: Path) -> Open:
        def open_file(num_threads: int | None) -> Run:
            numbers.append(num_threads)
            return lambda image: [np.zeros((len(image), len(source.names)))]

        return open_file

    monkeypatch.setitem(FORMATS, "litert", Format("Stand-in", convert))
    monkeypatch.setattr(extras, "version", lambda package: {"torch": "2.14.1"}.get(package, "99.0"))
    return numbers


@pytest.fixture(scope="module")
def files_of_all(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Files]:
    """In place of `write_files`: one network's files for all tests."""
    written: list[Files] = []

    def write(task: Any, network: nn.Module, _: Sequence[str], __: Path) -> Files:
        assert task.config.data.input_size == SIDE_PX
        if not written:
            written.append(write_files(task, network, ["int8"], tmp_path_factory.mktemp("files")))
        return written[0]

    return write


@pytest.mark.usefixtures("opened")
def test_latencies_and_photos_per_second(
    tmp_path: Path,
    generated_roots: Callable[[str], Path],
    files_of_all: Callable[..., Files],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "write_files", files_of_all)
    photo = next(generated_roots("attributes").rglob("*.jpg"))
    (photos := tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (photos / name).write_bytes(photo.read_bytes())
    words = ("--runtimes", "torch", "int8", "litert", "--images", str(photos))
    rows = measure(tmp_path / "out", capsys, *SMALL, *words)
    assert [list(row) for row in rows] == [COLUMNS] * 3
    assert [row["runtime"] for row in rows] == ["torch", "int8", "litert"]
    for row in rows:
        assert (row["width"], row["input_size"], row["batch_size"]) == (0.25, SIDE_PX, 1)
        assert row["num_threads"] == torch.get_num_threads()
        assert row["mult_adds"] == pytest.approx(13.32, abs=0.005)  # Table 12 prints 15
        assert 0 < row["ms_per_image"] < 10_000
        assert 0.1 < row["floor_rate"] < 100_000  # G mult-adds per second
    on_torch, int8, other = (row["predict_per_s"] for row in rows)
    assert min(on_torch, int8) > 0
    assert other is None  # `predict` does not use it


def test_each_network_runs_with_each_number_of_threads_and_images(
    tmp_path: Path,
    opened: list[int | None],
    files_of_all: Callable[..., Files],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A call's time is here the length of its first output: the images of a batch, and the rows of a product."""
    torch_threads, products = [], []

    def lengths(calls: Sequence[Callable[[], Any]]) -> list[float]:
        found = []
        for call in calls:
            first = call()[0]
            if isinstance(first, torch.Tensor):
                torch_threads.append(torch.get_num_threads())
            if len(first) == SIDE:
                products.append(first.dtype)
            found.append(float(len(first)))
        return found

    monkeypatch.setattr(benchmark, "write_files", files_of_all)
    monkeypatch.setattr(benchmark, "latencies_ms", lengths)
    before = torch.get_num_threads()
    grid = ("--num_threads", "2", "1", "--batch_sizes", "1", "3", "--runtimes", "int8", "litert", "onnx", "torch")
    rows = measure(tmp_path / "out", capsys, *SMALL, *grid)
    assert torch.get_num_threads() == before
    cells = [(row["runtime"], row["num_threads"], row["batch_size"]) for row in rows]
    batched = [(name, threads, batch) for name in ("torch", "onnx", "int8") for threads in (1, 2) for batch in (1, 3)]
    assert cells == [*batched, ("litert", 1, 1), ("litert", 2, 1)]
    assert [row["ms_per_image"] for row in rows] == [1.0] * len(rows)
    assert torch_threads == [1, 1, 2, 2]
    assert opened == [1, 2]
    assert products == [np.float32, np.float32, np.int32, np.int32]
    assert {row["floor_rate"] for row in rows} == {MULT_ADDS / 1e6 / SIDE}


def test_rates_and_ratios_by_hand() -> None:
    row = Row(1.0, 224, 500.0, 4.2, "onnx", 1, 8, ms_per_image=10.0, floor_rate=100.0)
    assert row.images_per_s == 100
    assert row.times_floor == 2  # 500 M mult-adds take 5 ms at 100 M a ms
    assert list(row.as_record()) == COLUMNS


def test_table_and_rank_correlation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("--widths", "0.25", "--sizes", "160", "96", "32", "--runtimes", "torch", "--num_threads", "1")
    assert run(*grid, "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "latency on the CPU" in printed
    lines = [line.replace("│", " ").split() for line in printed.splitlines()]
    (row,) = (words for words in lines if words[:2] == ["0.25", "160"])
    assert row[4:7] == ["PyTorch", "1", "1"]
    assert float(row[8].replace(",", "")) == pytest.approx(1000 / float(row[7]), rel=0.05)  # of the rounded ms
    assert "ONNX" not in printed
    assert "floor, 1 thread, float32: " in printed
    assert "int8" not in printed
    assert "rank correlation of mult-adds with latency, PyTorch, 1 thread, batch 1: " in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--num_threads", "1", "0"], "--num_threads: expected numbers of 1 or more, got 0"),
        (["--num_threads", "1", "100000"], f"--num_threads: expected at most this machine's {os.cpu_count()} cores"),
        (["--batch_sizes", "-2"], "--batch_sizes: expected numbers of 1 or more, got -2"),
        (["--runtimes", "coreml"], "runtimes"),  # does not run here
        (["--images", "missing"], "missing"),
    ],
)
def test_errors_are_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = run(*SMALL, *words)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


def test_a_runtime_that_is_missing_or_cannot_do_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "version", lambda _: "0.0.1")
    assert run(*SMALL, "--runtimes", "openvino") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --runtimes openvino: needs openvino>=")
    assert line.endswith("found 0.0.1; install it with: pip install '.[openvino]'")
    monkeypatch.setattr(extras, "version", lambda _: "99.0")
    assert run(*SMALL, "--runtimes", "torch", "executorch", "--num_threads", "1", "2") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --num_threads: ExecuTorch has one number of threads in a process, got 2")
    assert run(*SMALL, "--runtimes", "torch", "executorch", "--batch_sizes", "2", "8") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --batch_sizes: ExecuTorch takes one image at once, got 2 8; add 1, or")


def test_photos_that_cannot_be_read_are_not_timed(
    tmp_path: Path, generated_roots: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"--images: none of 1 photo can be read; the first: .*a\.jpg"):
        benchmark._photos(str(tmp_path))
    photo = next(generated_roots("attributes").rglob("*.jpg"))
    (tmp_path / "b.jpg").write_bytes(photo.read_bytes())
    capsys.readouterr()
    (source,) = benchmark._photos(str(tmp_path))
    assert source.name.endswith("b.jpg")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--images: left out 1 of 2 photos that cannot be read; the first: ")


def test_videos_are_no_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert run(*SMALL, "--images", str(tmp_path)) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("clip.mp4 is a video or a stream; expected a folder of photos alone")
    )


def test_runtimes_are_those_of_the_command_line() -> None:
    """Which names them itself, since it imports no torch."""
    parser = ArgumentParser()
    COMMANDS["benchmark"].add_flags(parser)
    (action,) = (action for action in parser._actions if action.dest == "runtimes")
    assert list(action.choices or []) == list(RUNTIMES)
