"""The commands: train, index, evaluate with both methods, predict regions or coordinates; and error lines."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbone.weights import Weights
from datasets.files import CACHE_VARIABLE
from tasks.common.cli.main import main
from tasks.common.deploy import predictor
from tasks.geolocation.cells import divide, write_cells
from tasks.geolocation.cli import COMMANDS
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.task import GeolocationTask


@pytest.fixture
def words(generated_roots: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    root = str(generated_roots("geolocation"))
    small = ("--data.root", root, "--data.input_size", "64", "--loop.num_workers", "0")
    return [*small, "--backbone.name", "mobilenet_0.25"]


CELLS = ("--cells.max_photos", "[6,2]", "--cells.min_photos", "1")
HEAD = (*CELLS, "--optim.layers", "linear_probe", "--optim.weight_decay", "1e-7")


def run(*words: str) -> int:
    return main("geolocation", words, COMMANDS)


def test_from_training_to_regions(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = str(tmp_path / "run")
    assert run("train", *words, *HEAD, "--run_dir", at) == 0
    with (tmp_path / "run" / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert sum(int(cell["num_photos"]) for cell in cells if cell["partitioning"] == "1") == 24
    assert (tmp_path / "run" / "cells.png").is_file()
    capsys.readouterr()
    assert run("evaluate", "--run", at, "--split", "train", "--out", str(tmp_path / "scores"), "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["within_750km"] > scores["constant_within_750km"]  # its own 24 photos
    written = {path.name for path in (tmp_path / "scores").iterdir()}
    assert written >= {"metrics.json", "distances.png", "predictions.png"}

    image = str(next(Path(words[1]).rglob("*.jpg")))
    assert run("predict", "--run", at, image, "--out", str(tmp_path / "coarse")) == 0
    coarse = json.loads((tmp_path / "coarse" / "predictions.jsonl").read_text())
    assert not {"lat_deg", "lng_deg", "cell"} & set(coarse)
    assert coarse["regions"][0]["width_km"] >= 500
    assert run("predict", "--run", at, "--exact", image, "--out", str(tmp_path / "exact")) == 0
    exact = json.loads((tmp_path / "exact" / "predictions.jsonl").read_text())
    assert exact["regions"] == coarse["regions"]
    assert exact["cell"] in {cell["cell"] for cell in cells}
    assert run("export", "--run", at, "--exact", "--bandwidth_km", "300", "--out", str(tmp_path / "exported")) == 0
    assert_same_place(tmp_path / "exported", image, tmp_path / "from_export")

    # the same cells for another run; those of another model are an error
    same_cells = ("--cells.file", str(tmp_path / "run" / "cells.csv"))
    assert run("train", *words, *HEAD, *same_cells, "--run_dir", str(tmp_path / "second")) == 0
    assert (tmp_path / "second" / "cells.csv").read_text() == (tmp_path / "run" / "cells.csv").read_text()
    sea_cells = tmp_path / "sea.csv"
    write_cells(sea_cells, divide(np.linspace(-60, -59, 4), np.full(4, -120.0), max_photos=[1], min_photos=1))
    capsys.readouterr()
    assert run("train", *words, *HEAD, "--cells.file", str(sea_cells), "--run_dir", str(tmp_path / "third")) == 1
    assert "no training photo is in one of the cells of" in capsys.readouterr().err
    assert run("evaluate", "--run", at, "--cells.file", str(sea_cells)) == 1
    line = capsys.readouterr().err
    assert f": cells.file: {sea_cells} has the 4 cells of another model; this one has " in line
    assert line.count("\n") == 1


def test_retrieval_scores_are_equal_from_an_index_and_on_the_fly(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, gallery = str(tmp_path / "run"), str(tmp_path / "gallery")
    assert run("train", *words, *HEAD, "--run_dir", trained) == 0
    assert run("index", *words, "--pretrained", trained, "--run_dir", gallery) == 0
    capsys.readouterr()
    assert run("evaluate", "--run", trained, "--method", "retrieval") == 1
    assert ": method: the run is of classification; to search with the features" in capsys.readouterr().err
    assert run("evaluate", "--run", gallery, "--split", "train", "--json", "--out", str(tmp_path / "indexed")) == 0
    indexed = json.loads(capsys.readouterr().out)
    on_the_fly = ("evaluate", "--method", "retrieval", *words, "--pretrained", trained, "--split", "train")
    assert run(*on_the_fly, "--json", "--out", str(tmp_path / "computed")) == 0
    assert json.loads(capsys.readouterr().out) == indexed
    assert indexed["within_1km"] == 1  # each photo finds itself
    image = str(next(Path(words[1]).rglob("*.jpg")))
    assert run("predict", "--run", gallery, image, "--out", str(tmp_path / "seen")) == 0
    seen = json.loads((tmp_path / "seen" / "predictions.jsonl").read_text())["regions"]
    exported = tmp_path / "exported"
    assert run("export", "--run", gallery, "--exact", "--out", str(exported)) == 0
    capsys.readouterr()
    assert run("evaluate", "--run", str(exported), "--split", "train", "--json", "--out", str(tmp_path / "again")) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(indexed, abs=1e-3)
    found = predictor.load(exported)(image)["regions"]
    assert [region["name"] for region in found] == [region["name"] for region in seen]
    assert [region["probability"] for region in found] == pytest.approx([r["probability"] for r in seen], abs=2e-3)
    assert_same_place(exported, image, tmp_path / "from_export")
    assert run("predict", "--run", str(exported), "--num_neighbours", "3", image) == 1
    assert "error: num_neighbours: 10 is built into" in capsys.readouterr().err


def assert_same_place(exported: Path, image: str, out: Path) -> None:
    """By predictor.py as by `predict`, which rounds coordinates to 5 decimals."""
    assert run("predict", "--run", str(exported), image, "--out", str(out)) == 0
    expected = json.loads((out / "predictions.jsonl").read_text())
    found = predictor.load(exported)(image)
    assert found["cell"] == expected["cell"]
    for name, tolerance in {"lat_deg": 1e-5, "lng_deg": 1e-5, "probability": 1e-4}.items():
        assert found[name] == pytest.approx(expected[name], abs=tolerance, rel=0)


def test_errors_are_one_line_and_leave_no_run(
    words: list[str], tmp_path: Path, error_line_of: Callable[..., str]
) -> None:
    def error(*arguments: str) -> str:
        line = error_line_of(run, *arguments)
        assert not (tmp_path / "run").exists()
        return line

    root = tmp_path / "photos"
    shutil.copytree(words[1], root)  # the sample is shared with other tests
    words = ["--data.root", str(root), *words[2:]]
    lines = (root / "places.csv").read_text().splitlines()
    (root / "val.csv").write_text("\n".join([lines[0], *(line for line in lines if line.endswith("val"))]))
    (root / "gone.csv").write_text("IMG_ID,LAT,LON\ngone.jpg,1,2\n")
    at = ("--run_dir", str(tmp_path / "run"))
    assert "retrieval is not trained; `index`" in error("train", *words, *at, "--method", "retrieval")
    assert "cells.min_photos: no cell has 50 of the 24" in error("train", *words, *at)
    assert "are in one cell" in error("train", *words, *at, "--cells.min_photos", "9", "--cells.max_photos", "[23]")
    assert "cells.max_photos: expected positive numbers, the largest first" in error(
        "train", *words, *at, "--cells.max_photos", "[2,6]"
    )
    assert "score_km: expected one of thresholds_km" in error("train", *words, *at, "--score_km", "3")
    assert "no such file as" in error("train", *words, *at, "--data.csv", "other.csv")
    assert "there are no images for train" in error("train", *words, *at, "--data.csv", "val.csv")
    assert "data.images names their folder" in error("train", *words, *at, "--data.csv", "gone.csv")
    with pytest.raises(ValueError, match=r"weights\.h5: has no outputs of tasks\.geolocation"):
        GeolocationTask.from_pretrained(GeolocationConfig(), Weights({}, "keras", "weights.h5"))


@pytest.mark.data
def test_retrieval_in_san_francisco_scores_like_the_reference(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another implementation, with other crops: .18/.31/.61/.75; constant prediction, exact: .04/.07/.27/.56."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    data = ("--data.root", str(shared / "data" / "geo"), "--data.csv", "sf.csv", "--data.images", "sf")
    weights = (
        "--pretrained",
        str(shared / "weights" / "mobilenet_1_0_224_tf.h5"),
        "--data.crop_fraction",
        "1",
    )
    settings = ("--num_neighbours", "1", "--thresholds_km", "[0.05,0.1,0.25,0.5]", "--score_km", "0.1")
    words = ("evaluate", "--method", "retrieval", *data, *weights, *settings, "--out", str(tmp_path / "scores"))
    assert run(*words) == 0
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    names = [f"within_{km}km" for km in (0.05, 0.1, 0.25, 0.5)]
    assert [scores[name] for name in names] == pytest.approx([0.18, 0.31, 0.61, 0.75], abs=0.08)
    assert [scores[f"constant_{name}"] for name in names] == pytest.approx([0.04, 0.07, 0.27, 0.56], abs=0.005)
