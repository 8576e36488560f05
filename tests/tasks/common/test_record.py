"""`evaluate --record FILE`: a line with the command and settings to repeat the evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from results.measured import read_measured
from tasks.common.cli.main import main
from tasks.common.settings import flatten


def test_each_evaluation_appends_a_line(generated_roots: Callable[[str], Path], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "measured.jsonl"

    def run(*words: str) -> int:
        return main("classification", [*words, "--loop.num_workers", "0"])

    root = generated_roots("classification")
    data = ["--data.root", str(root), "--data.format", "stanford_dogs", "--data.input_size", "48"]
    more = ["--backbone.name", "mobilenet_0.25", "--optim.epochs", "1", "--optim.batch_size", "8"]
    assert run("train", *data, *more, "--run_dir", str(tmp_path / "run")) == 0
    assert run("evaluate", "--run", str(tmp_path / "run")) == 0
    assert not path.exists()
    scores = []
    for _ in range(2):
        capsys.readouterr()
        assert run("evaluate", "--run", str(tmp_path / "run"), "--json", "--record", str(path)) == 0
        scores.append(json.loads(capsys.readouterr().out))
    records = read_measured(path)
    assert [record["metrics"] for record in records] == scores[::-1]
    record = records[0]
    assert (record["task"], record["data"], record["split"]) == ("classification", root.name, "val")
    assert record["command"].startswith("python -m tasks.classification")
    assert record["settings"] == flatten(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    assert record["settings"]["optim.batch_size"] == 8, "how the run was trained"
