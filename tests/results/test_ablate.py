"""Ablations: which networks are trained, at which width, and what the table says of their differences. No training."""

import csv
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from backbone.build import build_backbone
from backbone.cost import count_cost
from datasets.files import only_process
from results import cli, study
from results.ablate import network_name
from results.ablate_report import AblatedRow
from results.study_rows import RowResult
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.common.cli.parser import read_arguments
from tests.tasks.common.test_pretrained import save_run

Run = Callable[..., int]
# Of the seeds 0, 1, 2. Those of `linear` differ from the base's by 0.10, 0.11 and 0.12, of `plain` by -0.1, 0 and 0.2.
SCORES = {"base": (0.5, 0.6, 0.7), "linear": (0.6, 0.71, 0.82), "plain": (0.4, 0.6, 0.9), "late": (0.4, 0.5, 0.6)}
STEPS = 70


class Stub:
    """In place of the trainings: writes what they would write."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.interrupted_at = ""

    def __call__(self, words: Sequence[str], title: str) -> None:
        flags = dict(pairwise(words))
        folder = Path(flags["--run_dir"] if "--run_dir" in flags else flags["--resume"])
        if folder.name == self.interrupted_at:
            raise KeyboardInterrupt
        self.commands.append(list(words))
        row, _, seed = folder.name.rpartition("_")
        words = ["--config", str(folder.parents[1] / "config.yaml"), "--backbone.name", flags["--backbone.name"]]
        config = read_arguments("attributes", AttributesConfig, Path("unused"), "train", words).config
        folder.mkdir(parents=True, exist_ok=True)
        save_run(folder, AttributesTask.with_num_classes(config, 3))
        (folder / "metrics.json").write_text(json.dumps({"mean_ap": SCORES[row][int(seed)]}))
        (folder / "log.csv").write_text(f"epoch,step\n1,{STEPS // 2}\n2,{STEPS}\n")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr(study, "run_command", stub)
    return stub


def ablate_in(folder: Path, *words: str, rows: Sequence[str] = ("linear", "plain")) -> int:
    """`python -m results ablate` on a base of width 0.1."""
    place = ["--task", "attributes", "--out", str(folder), "--rows", *rows]
    return cli.main(["ablate", *place, "--backbone.name", "mobilenet_0.1", "--data.input_size", "32", *words])


@pytest.fixture
def ablate(tmp_path: Path) -> Run:
    return partial(ablate_in, tmp_path / "study")


@pytest.fixture(scope="module")
def begun_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with nothing trained yet."""
    folder = tmp_path_factory.mktemp("study")
    assert ablate_in(folder, "--budget", "0") == 3
    return folder


def read_table(tmp_path: Path) -> dict[str, dict[str, str]]:
    with (tmp_path / "study" / "ablate.csv").open() as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_rows_differ_in_backbone_and_seed_alone(stub: Stub, ablate: Run, tmp_path: Path) -> None:
    assert ablate() == 0
    folder = tmp_path / "study"
    expected = [
        f"tasks.attributes train --config {folder / 'config.yaml'} --seed {seed} --backbone.name mobilenet_0.1{suffix} "
        f"--run_dir {folder / 'cells' / row}_{seed}"
        for seed in range(3)
        for row, suffix in (("base", ""), ("linear", "_linear"), ("plain", "_plain"))  # the base is their counterpart
    ]
    assert list(map(" ".join, stub.commands)) == expected
    assert ablate() == 0
    assert len(stub.commands) == len(expected), "nothing is trained twice"


def test_the_table_says_what_three_seeds_can_tell(
    stub: Stub, ablate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate() == 0
    table = read_table(tmp_path)
    for row in ("linear", "plain"):
        interval = ttest_rel(SCORES[row], SCORES["base"]).confidence_interval(0.95)
        middle, half = float(table[row]["difference"]), float(table[row]["half_interval"])
        np.testing.assert_allclose([middle - half, middle + half], interval, rtol=1e-4)
    assert [table[row]["verdict"] for row in ("base", "linear", "plain")] == ["", "better", "too small to say"]
    assert table["linear"]["num_seeds"] == "3"
    assert float(table["linear"]["num_steps"]) == STEPS
    assert [float(table["linear"][f"seed_{seed}"]) for seed in range(3)] == list(SCORES["linear"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(" linear "))
    words = ["linear", "mobilenet_0.1_linear", "0.710", "0.110", "3", "base", "+0.110", "0.025", "better"]
    assert line.split()[: len(words)] == words
    picture = cv2.imread(str(tmp_path / "study" / "ablate.png"))
    assert picture is not None
    assert np.ptp(picture) > 0


@pytest.mark.parametrize(("seeds", "difference"), [((), ""), ((0,), "0.1"), ((1, 2), "0.115")])
def test_only_seeds_of_both_are_compared(seeds: Sequence[int], difference: str) -> None:
    base = RowResult(row="base", scores=dict(enumerate(SCORES["base"])))
    scores = {seed: SCORES["linear"][seed] for seed in seeds}
    row = AblatedRow(row="linear", scores=scores, network="", counterpart="base")
    row.compare(base)
    if seeds:
        assert row.difference == pytest.approx(float(difference))
    assert row.verdict == ("needs 2 seeds" if len(seeds) < 2 else "better" if difference else "too small to say")


def test_an_interrupted_study_keeps_what_it_has_and_goes_on(
    stub: Stub, ablate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.interrupted_at = "plain_0"
    assert ablate() == 130
    cells = tmp_path / "study" / "cells"
    assert sorted(path.parent.name for path in cells.glob("*/metrics.json")) == ["base_0", "linear_0"]
    assert ablate("--budget", "0") == 3
    assert "7 of 9 networks are left; the same command resumes" in capsys.readouterr().err
    assert read_table(tmp_path)["linear"]["verdict"] == "needs 2 seeds"
    assert read_table(tmp_path)["plain"]["mean_ap"] == ""
    stub.interrupted_at = ""
    assert ablate() == 0
    assert len({command[-1] for command in stub.commands}) == len(stub.commands) == 9


def test_rows_and_seeds_can_be_added_later(stub: Stub, ablate: Run, tmp_path: Path) -> None:
    assert ablate("--seeds", "1", rows=["linear"]) == 0
    assert ablate("--seeds", "2", rows=["late"]) == 0
    made = [Path(command[-1]).name for command in stub.commands]
    assert made == ["base_0", "linear_0", "late_0", "base_1", "late_1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.input_size", "64"], "has ablate.json with data.input_size 32, not 64; choose another --out"),
        (["--rows", "relu7"], "--rows: there is no row 'relu7'; expected base, linear, "),
        (["--backbone.name", "mobilenet_0.1_relu"], "backbone.name: expected MobileNet v1 as in Table 1, such as"),
        (["--backbone.name", "mobilenet_v2_1.0"], "such as mobilenet_0.5, got mobilenet_v2_1.0"),
        (["--backbone.channels", "[1, 2]"], "--backbone.channels: cannot be set for all rows; use --backbone.name"),
        (["--pretrained", "keras"], "pretrained: expected none, got keras; all rows start from random weights"),
        (["--seed", "1"], "--seed: cannot be set for all rows; use --seeds"),
        (["--run_dir", "x"], "--run_dir: cannot be set for all rows; use --out"),
        (["--optim.layers", "linear_probe"], "optim.layers: expected all or gradual"),
        (["--task", "classification"], "has ablate.json with task 'attributes', not 'classification'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    words: list[str], expected: str, stub: Stub, begun_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (begun_study / "ablate.json").read_text()
    capsys.readouterr()
    assert ablate_in(begun_study, *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert (begun_study / "ablate.json").read_text() == before
    assert stub.commands == []


def test_a_folder_with_another_study_is_refused(stub: Stub, ablate: Run, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "compress.json").write_text("{}")
    assert ablate() == 1
    assert "has compress.json, where ablate.json is expected; choose another --out" in capsys.readouterr().err
    assert stub.commands == []


def test_a_row_that_a_task_cannot_have_is_a_dash_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablate", "--task", "segmentation", "--out", str(tmp_path), "--rows", "resnet50", "linear"]
    assert cli.main([*words, "--seeds", "1", "--budget", "0", "--data.input_size", "64"]) == 3
    printed = capsys.readouterr()
    assert "resnet50: ResNet-50 cannot be dilated, which this needs; expected a MobileNet" in printed.out
    assert "2 of 2 networks are left" in printed.err


def test_without_a_possible_row_there_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ablate", "--task", "segmentation", "--out", str(tmp_path / "study"), "--rows", "resnet50"]
    assert cli.main([*words, "--data.input_size", "64"]) == 1
    assert "error: resnet50: ResNet-50 cannot be dilated, " in capsys.readouterr().err
    assert not [*(tmp_path / "study").glob("*.json")]


def test_the_width_of_a_row_makes_its_cost_equal() -> None:
    """As nearly as whole channels allow: no other width comes nearer."""

    def mult_adds_of(name: str) -> int:
        with torch.device("meta"):
            return count_cost(build_backbone(name), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).mult_adds

    wanted, name = mult_adds_of("mobilenet_0.25"), network_name("late", 0.25, 64)
    gap = abs(mult_adds_of(name) - wanted)
    assert gap < 0.03 * wanted
    prefix, width, suffix = name.split("_")
    for change in (-0.006, 0.006):
        assert abs(mult_adds_of(f"{prefix}_{float(width) + change:g}_{suffix}") - wanted) >= gap


def test_a_second_process_in_the_folder_is_refused(
    stub: Stub, ablate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would remove the other's networks that have no checkpoint yet."""
    monkeypatch.setattr("datasets.files.LOCK_WAIT_S", 0)
    (tmp_path / "study").mkdir()
    with only_process(tmp_path / "study", "--out"):
        assert ablate() == 1
    assert f"--out: another process is working on {tmp_path / 'study'}" in capsys.readouterr().err
    assert stub.commands == []
