"""Compression studies: which commands make a row, what is left out and why, and the table. Nothing is trained."""

import csv
import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from backbone.build import build_backbone
from backbone.cost import count_cost
from results import cli, compress_report, compress_runtimes, study
from results.compress_rows import DEFAULT_ROWS, DEFAULT_RUNTIMES
from results.compress_rows import RUNTIMES as COLUMNS
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.common.benchmark.runtimes import ONNX, RUNTIMES, Files
from tasks.common.cli.parser import read_arguments
from tasks.common.deploy.formats.source import ConversionSource, Open
from tasks.common.deploy.formats.table import FORMATS, Format
from tasks.common.runtime import extras
from tests.tasks.common.test_pretrained import save_run

Run = Callable[..., int]
SCORES = {"teacher": 0.8, "random": 0.4, "pretrained": 0.6, "distilled": 0.65, "pruned": 0.5, "pruned+distilled": 0.55}
STEPS = 70
ROWS = ("teacher", "random", "pruned+distilled", "pruned+distilled+int8")


def write_tiny_onnx(path: Path) -> None:
    images, outputs = (helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("images", "outputs"))
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["outputs"])], "tiny", [images], [outputs])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def time_once(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """In place of the repeated measurements: later networks are slower."""
    for call in calls:
        call()
    return [float(position) for position, _ in enumerate(calls, 1)]


class Stub:
    """In place of the processes: writes what the commands would write, after a look at what they read."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails = ""

    def __call__(self, words: Sequence[str], title: str) -> None:
        self.commands.append(list(words))
        flags = dict(pairwise(words))
        verb = "distill" if words[0] == "distill" else words[1]
        for flag in ("--run", "--teacher"):
            assert flag not in flags or (Path(flags[flag]) / "metrics.json").is_file(), f"{flag} is finished"
        if verb == self.fails:
            raise study.CommandError(f"{title}: no; the command was", "cannot be done")
        folder = Path(next(flags[flag] for flag in ("--run_dir", "--out", "--resume") if flag in flags))
        name, _, seed = folder.name.rpartition("_")
        score = SCORES.get(name.removesuffix("+int8"), 0.1) + 0.01 * int(seed)
        if verb == "export":
            folder.mkdir(parents=True)
            write_tiny_onnx(folder / "model.onnx")
            networks = [{"metrics": {"mean_ap": value}} for value in (0.9, score - 0.02)]
            (folder / "export.json").write_text(json.dumps({"networks": networks}))
            return
        run = folder / "distilled" if verb == "distill" else folder
        if verb == "prune":
            shutil.copytree(flags["--run"], run)
        else:
            self._train(run, flags, folder.parents[1] / "config.yaml")
        (run / "metrics.json").write_text(json.dumps({"mean_ap": score}))
        (run / "log.csv").write_text(f"epoch,step\n1,{STEPS // 2}\n2,{STEPS}\n")

    def _train(self, run: Path, flags: dict[str, str], config_file: Path) -> None:
        backbone = ["--backbone.name", flags.get("--backbone.name", "mobilenet_0.1")]
        words = ["--config", str(config_file), *backbone, "--pretrained", "none"]
        config = read_arguments("attributes", AttributesConfig, Path("unused"), "train", words).config
        run.mkdir(parents=True, exist_ok=True)
        save_run(run, AttributesTask.with_num_classes(config, 3))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr(study, "run_command", stub)
    monkeypatch.setattr(compress_report, "latencies_ms", time_once)
    return stub


@pytest.fixture
def compress(tmp_path: Path) -> Run:
    """`python -m results compress` with a student of width 0.1 and a teacher of width 0.25."""

    def run(*words: str, rows: Sequence[str] = ROWS) -> int:
        networks = ["--student", "mobilenet_0.1", "--teacher", "mobilenet_0.25", "--rows", *rows]
        place = ["--task", "attributes", "--out", str(tmp_path / "study")]
        return cli.main(["compress", *networks, *place, "--data.input_size", "32", *words])

    return run


def read_table(tmp_path: Path) -> dict[str, dict[str, str]]:
    with (tmp_path / "study" / "compress.csv").open() as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_each_network_is_made_once_of_those_it_needs_with_the_same_settings(
    stub: Stub, compress: Run, tmp_path: Path
) -> None:
    assert compress(rows=[row for row in DEFAULT_ROWS if not row.startswith("pretrained")]) == 0
    trainings = [command for command in stub.commands if "--config" in command]
    assert len(trainings) == 5
    for command in trainings:
        assert command[command.index("--config") + 1] == str(tmp_path / "study" / "config.yaml")
        assert command[command.index("--seed") + 1] == "0"
        assert not {"--optim.epochs", "--data.root", "--data.input_size"} & set(command)
    assert len({command[-1] for command in stub.commands}) == len(stub.commands), "one folder for each"
    by_folder = {Path(command[-1]).name: command for command in stub.commands}
    cells = tmp_path / "study" / "cells"

    def words_of(folder: str, flag: str) -> str:
        return by_folder[folder][by_folder[folder].index(flag) + 1]

    assert words_of("pruned_0", "--pretrained") == str(cells / "pruned_teacher_0")
    assert words_of("pruned+distilled_0", "--pretrained") == str(cells / "pruned_teacher_0")
    assert words_of("pruned+distilled+int8_0", "--run") == str(cells / "pruned+distilled_0" / "distilled")
    assert words_of("random_0", "--pretrained") == "none"
    # No less than the student's, so that a network with its channels is the answer, and hardly more.
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    small, large = (count_cost(build_backbone(name), images).mult_adds for name in ("mobilenet_0.1", "mobilenet_0.25"))
    exact = small / large
    assert exact <= float(words_of("pruned_teacher_0", "--mult_adds")) < exact + 1e-4

    stub.commands.clear()
    assert compress(rows=[row for row in DEFAULT_ROWS if not row.startswith("pretrained")]) == 0
    assert stub.commands == [], "nothing is made twice"


def test_the_table_has_means_deviations_costs_and_the_frontier(
    stub: Stub, compress: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compress("--seeds", "3") == 0
    table = read_table(tmp_path)
    assert list(table) == list(ROWS)
    for row, cells in table.items():
        drop = 0.02 if row.endswith("int8") else 0
        scores = [SCORES[row.removesuffix("+int8")] - drop + 0.01 * seed for seed in range(3)]
        assert float(cells["mean_ap"]) == pytest.approx(statistics.mean(scores))
        assert float(cells["deviation"]) == pytest.approx(statistics.stdev(scores))
        assert cells["num_seeds"] == "3"
        assert float(cells["num_steps"]) == STEPS
        assert float(cells["num_origin_steps"]) == (STEPS if row.startswith("pruned") else 0)
        assert float(cells["file_mb"]) > 0
        assert bool(cells["torch_ms"]) == (not row.endswith("int8"))
    assert float(table["teacher"]["mult_adds"]) > float(table["random"]["mult_adds"])
    # The first has the best score, and is the fastest; all files have one size.
    for cost in ("file_mb", "onnx_ms"):
        assert [row for row, cells in table.items() if cells[f"best_by_{cost}"] == "1"] == ["teacher"]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(" teacher "))
    assert line.split()[:4] == ["teacher", "0.810", "0.010", "3"]
    picture = cv2.imread(str(tmp_path / "study" / "compress.png"))
    assert picture is not None
    assert np.ptp(picture) > 0


def time_by_output(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """A network of the stand-ins returns its own latency."""
    outputs = [call()[0] for call in calls]
    return [output if isinstance(output, float) else 1.0 for output in outputs]


def always(latency_ms: float) -> Open:
    return lambda num_threads: lambda image: [latency_ms]  # type: ignore[list-item]


@pytest.fixture
def stand_ins(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of LiteRT and ExecuTorch, and of the ONNX files that they are made from."""
    tiny = tmp_path / "tiny.onnx"
    write_tiny_onnx(tiny)

    def write_files(_: Any, network: torch.nn.Module, names: Sequence[str], folder: Path) -> Files:
        assert list(folder.iterdir()) == []
        assert not set(names) & set(ONNX.values()), "the file of the study is there"
        return Files(network, {"float32": tiny}, {FORMATS["litert"].num_first_layers: tiny})

    litert = Format("LiteRT", lambda *_: always(32.0), int8=lambda *_: lambda *_: always(8.0))
    monkeypatch.setitem(FORMATS, "litert", litert)
    monkeypatch.setitem(FORMATS, "executorch", Format("ExecuTorch", lambda *_: always(33.0)))
    monkeypatch.setattr(compress_runtimes, "write_files", write_files)
    monkeypatch.setattr(compress_report, "latencies_ms", time_by_output)
    monkeypatch.setattr(extras, "version", lambda package: {"torch": "2.14.1"}.get(package, "99.0"))


@pytest.mark.usefixtures("stand_ins")
def test_each_runtime_has_a_column_with_a_dash_where_it_has_no_such_network(
    compress: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compress("--runtimes", "executorch", "litert", "onnx", "litert") == 0
    for row, cells in read_table(tmp_path).items():
        in_int8 = row.endswith("int8")
        assert [name for name in cells if name.endswith("_ms") and "best" not in name] == [
            "onnx_ms",
            "litert_ms",
            "executorch_ms",
        ]
        expected = ("1.0", "8.0", "") if in_int8 else ("1.0", "32.0", "33.0")
        assert (cells["onnx_ms"], cells["litert_ms"], cells["executorch_ms"]) == expected
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith(" pruned+distilled+int8 "))
    assert line.split()[7:10] == ["1.00", "8.00", "-"]
    assert " LiteRT " in out


@pytest.mark.usefixtures("stand_ins")
def test_a_network_that_a_runtime_cannot_have_is_a_dash_with_the_reason(
    compress: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(source: ConversionSource, _: Path) -> Open:
        raise RuntimeError("no such operator")

    monkeypatch.setitem(FORMATS, "litert", Format("LiteRT", convert))
    assert compress("--runtimes", "torch", "onnx", "litert", rows=["random"]) == 0
    reason = "AttributeNet cannot be converted to LiteRT: no such operator"
    assert f"random: {reason}" in capsys.readouterr().out
    cells = read_table(tmp_path)["random"]
    assert (cells["torch_ms"], cells["onnx_ms"], cells["litert_ms"], cells["note"]) == ("1.0", "1.0", "", reason)


def test_runtimes_that_cannot_be_are_a_line_before_anything_is_made(
    stub: Stub, compress: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "version", lambda _: "0.0.1")
    for words, expected in (
        (["torch", "onnx", "litert"], "--runtimes litert: needs litert-torch>=0.10, found 0.0.1; install it with: pip"),
        (["torch", "litert"], "--runtimes: expected onnx and perhaps others, since the plot shows its latency; got"),
    ):
        assert compress("--runtimes", *words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {expected}")
    assert stub.commands == []
    assert not (tmp_path / "study" / "compress.json").exists()


def test_runtimes_are_those_of_benchmark() -> None:
    """A column is a runtime in float32 and, in 8 bits, the one of the same format, which its name is made into."""
    assert list(COLUMNS) == [name for name, runtime in RUNTIMES.items() if runtime.precision == "float32"]
    assert set(DEFAULT_RUNTIMES) <= set(COLUMNS)
    for name, runtime in RUNTIMES.items():
        if runtime.precision == "int8" and name != ONNX["int8"]:
            assert RUNTIMES[name.removesuffix("_int8")].format == runtime.format


def test_a_ticket_is_made_of_the_student_trained_alone(stub: Stub, compress: Run, tmp_path: Path) -> None:
    cells = tmp_path / "study" / "cells"
    assert compress("--pretrained", "keras", rows=["ticket_0.8"]) == 0
    dense, pruned, sparse, exported = stub.commands
    assert dense[-1] == str(cells / "pretrained_0")
    assert pruned[1:] == ["prune", "--run", dense[-1], "--sparsity", "0.8", "--out", str(cells / "ticket_0.8_start_0")]
    assert sparse[sparse.index("--pretrained") + 1] == pruned[-1]
    assert sparse[sparse.index("--optim.keep_zeros") + 1] == "true"
    assert exported[exported.index("--run") + 1] == sparse[-1] == str(cells / "ticket_0.8_0")
    assert float(read_table(tmp_path)["ticket_0.8"]["num_origin_steps"]) == STEPS


def test_a_row_that_there_cannot_be_is_a_dash_with_the_reason(
    stub: Stub, compress: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.fails = "prune"
    assert compress(rows=["random", "pretrained", "pruned", "pruned+int8"]) == 0
    out = capsys.readouterr().out
    for row in ("pruned", "pruned+int8"):
        assert f"{row}: cannot be done" in out
        assert read_table(tmp_path)[row]["mean_ap"] == ""
    assert "pretrained: the settings have no pretrained weights" in out
    assert float(read_table(tmp_path)["random"]["mean_ap"]) == SCORES["random"]
    stub.fails = "export"  # the network is there all the same
    assert compress(rows=["random+int8", "random"]) == 0
    assert "random+int8: cannot be done" in capsys.readouterr().out

    stub.fails = ""  # as after a package was installed
    assert compress(rows=["pruned"]) == 0
    assert float(read_table(tmp_path)["pruned"]["mean_ap"]) == SCORES["pruned"]


def test_what_has_no_time_is_left_and_what_is_interrupted_is_resumed(
    stub: Stub, compress: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compress("--budget", "0") == 3
    assert stub.commands == []
    assert "4 of 4 networks are left; the same command resumes" in capsys.readouterr().err
    cells = tmp_path / "study" / "cells"
    half_done = {"teacher_0": "last.pt", "pruned+distilled_0": "config.yaml", "random_0": "config.yaml"}
    for folder, file in half_done.items():
        (cells / folder).mkdir(parents=True)
        (cells / folder / file).touch()
    assert compress() == 0
    assert ["tasks.attributes", "train", "--resume", str(cells / "teacher_0")] in stub.commands
    assert ["distill", "--resume", str(cells / "pruned+distilled_0")] in stub.commands
    # Without a checkpoint there is nothing to resume.
    (random,) = (command for command in stub.commands if str(cells / "random_0") in command and "train" in command)
    assert random[-2:] == ["--run_dir", str(cells / "random_0")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.input_size", "64"], "has compress.json with data.input_size 32, not 64; choose another --out"),
        (["--optim.lr", "0.5"], "has compress.json with optim.lr"),
        (["--student", "mobilenet_0.5"], "--teacher: expected a network larger than mobilenet_0.5, got mobilenet_0.25"),
        (["--student", "resnet"], "backbone.name: backbone name 'resnet'"),
        (["--backbone.name", "mobilenet_0.1"], "--backbone.name: cannot be set for all rows; use --student"),
        (["--seed", "1"], "--seed: cannot be set for all rows; use --seeds"),
        (["--optim.layers", "linear_probe"], "optim.layers: expected all or gradual, since the backbone is trained"),
        (["--run_dir", "x"], "--run_dir: cannot be set for all rows; use --out"),
        (["--rows", "quantised"], "--rows: there is no row 'quantised'; expected teacher, random, "),
        (["--optim.speed", "1"], "unknown setting optim.speed"),
    ],
)
def test_a_study_with_other_settings_is_refused(
    words: list[str], expected: str, stub: Stub, compress: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compress("--budget", "0") == 3
    before = (tmp_path / "study" / "compress.json").read_text()
    capsys.readouterr()
    assert compress(*words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert (tmp_path / "study" / "compress.json").read_text() == before


def test_a_folder_of_something_else_is_refused(stub: Stub, compress: Run, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "sweep.json").write_text("{}")
    assert compress() == 1
    assert "has sweep.json, where compress.json is expected; choose another --out" in capsys.readouterr().err
    assert stub.commands == []


def test_a_training_that_fails_ends_the_study(stub: Stub, compress: Run, capsys: pytest.CaptureFixture[str]) -> None:
    stub.fails = "train"
    assert compress() == 1
    assert "error: teacher_0: no; the command was" in capsys.readouterr().err
