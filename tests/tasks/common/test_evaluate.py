"""Evaluation streams: memory grows with the split only as far as the scores need; each image counts once."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.files import CACHE_VARIABLE
from datasets.images.read import write_image
from datasets.types import Attributes, Label, Place
from tasks.attributes.metric import AttributesMetric
from tasks.classification.metric import ClassificationMetric
from tasks.common.cli.main import main
from tasks.common.evaluation.evaluate import evaluate, evaluation_loader
from tasks.common.evaluation.unreadable import LeftOut
from tasks.common.runtime.distributed import World
from tasks.geolocation.metric import GeolocationMetric
from tests.tasks.common.runs import run_detection, train_detection

NUM_CLASSES, NUM_ATTRIBUTES, NUM_CELLS, BATCH = 100, 40, 12_000, 50


def labels(rng: np.random.Generator, num_images: int) -> Iterator[tuple[Any, Any]]:
    for _ in range(num_images):
        scores = rng.random(NUM_CLASSES, np.float32)
        yield Label(int(scores.argmax()), scores), Label(int(rng.integers(NUM_CLASSES)))


def attributes(rng: np.random.Generator, num_images: int) -> Iterator[tuple[Any, Any]]:
    for _ in range(num_images):
        yield tuple(Attributes(rng.random(NUM_ATTRIBUTES, np.float32).round(digits)) for digits in (6, 0))  # type: ignore[misc]


def coordinates(rng: np.random.Generator, num_images: int) -> Iterator[tuple[Any, Any]]:
    cells = np.full(NUM_CELLS, 1 / NUM_CELLS, np.float32)
    for _ in range(num_images):
        yield tuple(Place(*rng.uniform(-90, 90, 2), 0, cells.copy()) for _ in "ab")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("metric", "pairs", "bytes_per_image"),
    [
        (ClassificationMetric(list(map(str, range(NUM_CLASSES)))), labels, 0),
        (AttributesMetric(list(map(str, range(NUM_ATTRIBUTES)))), attributes, NUM_ATTRIBUTES * (4 + 1)),
        (GeolocationMetric((750,), (np.zeros(1), np.zeros(1))), coordinates, 4 * 8),
    ],
    ids=["classification", "attributes", "geolocation of 12,000 cells"],
)
def test_a_metric_stores_only_what_its_scores_need(
    metric: Any, pairs: Callable[..., Any], bytes_per_image: int, rng: np.random.Generator
) -> None:
    """A confusion matrix, scores with their truth, or two coordinates; per batch only an array."""
    sizes = []
    for num_images in (200, 1800):
        examples = list(pairs(rng, num_images))
        for start in range(0, num_images, BATCH):
            metric.update(*zip(*examples[start : start + BATCH], strict=True))
        sizes.append(len(pickle.dumps(metric)))
    array_bytes = 250  # overhead of a pickled array
    assert sizes[1] - sizes[0] <= 1800 * bytes_per_image + 1800 // BATCH * 2 * array_bytes


def test_scores_of_several_processes_are_those_of_one(tiny_task: Callable[..., Any]) -> None:
    """Each evaluates its part; rank 0 merges the metrics in the order of the data set."""
    task = tiny_task()
    model, source = task.build_model(), task.source("val")
    alone = evaluate(task, model, evaluation_loader(task, source, 1))
    parts = [evaluate(task, model, evaluation_loader(task, source, 1, World(rank, 3))) for rank in range(3)]

    class RankZero(World):
        """Rank 0 of three processes, which gathers the parts of the others."""

        def broadcast_buffers(self, model: Any) -> None: ...
        def broadcast(self, value: Any) -> Any:
            return value

        def gather(self, value: Any) -> list[Any]:
            return [value, *(pickle.loads(pickle.dumps(part.metric)) for part in parts[1:])]

        def all_gather(self, value: Any) -> list[Any]:
            return [
                value,
                *(part.num_images if isinstance(value, int) else (LeftOut(), LeftOut()) for part in parts[1:]),
            ]

    together = evaluate(task, model, evaluation_loader(task, source, 1, World(0, 3)), world=RankZero(0, 3))
    assert together.num_images == alone.num_images == len(source)
    assert together.scores == pytest.approx(alone.scores, abs=0, rel=0, nan_ok=True)


def test_scored_and_unreadable_images_are_counted(generated_root: Path, tmp_path: Path) -> None:
    import shutil

    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(generated_root, data)
    some = ("--loop.max_unreadable_fraction", "0.5", "--optim.epochs", "1", "--loop.num_workers", "0")
    for path in sorted((data / "val2017").glob("*.jpg"))[:3]:
        path.write_bytes(path.read_bytes()[:400])
    assert train_detection(data, "--run_dir", str(run), *some).returncode == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["num_images"], metrics["num_unreadable"]) == (5, 3)
    record = tmp_path / "measured.jsonl"
    done = run_detection("evaluate", "--run", str(run), "--json", "--record", str(record))
    assert done.returncode == 1
    assert json.loads(done.stdout)["num_images"] == 5
    assert "error: --record: 3 of the 8 val images are unreadable" in done.stderr
    assert not record.exists()


@pytest.mark.filterwarnings("default")
def test_scores_of_images_that_the_run_was_trained_on_are_warned_about(
    class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that is held out only for the evaluation was trained on; the part that the run held out was not."""
    small = ("--data.input_size", "32", "--backbone.name", "mobilenet_0.25", "--optim.layers", "linear_probe")
    for run, fraction in (("all", "null"), ("most", "0.25")):
        words = ("--data.root", str(class_folders), "--data.val_fraction", fraction, *small)
        assert main("classification", ("train", *words, "--run_dir", str(tmp_path / run))) == 0
    for run, words, seen in (
        ("all", ("--data.val_fraction", "0.25"), True),
        ("most", (), False),
        ("most", ("--data.val_fraction", "0.1"), False),  # a part of the part
        ("most", ("--data.fold", "4/4"), True),
    ):
        capsys.readouterr()
        assert main("classification", ("evaluate", "--run", str(tmp_path / run), *words)) == 0
        printed = capsys.readouterr().err
        assert (f"warning: {tmp_path / run} was trained on " in printed) == seen, (run, words, printed)


@pytest.fixture
def class_folders(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of twenty images, without a validation part."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for name, level in (("dark", 60), ("light", 180)):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.normal(level, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            write_image(root / name / f"{number}.png", pixels)
    return root


def test_an_undefined_score_is_never_a_new_best() -> None:
    from tasks.common.evaluation.report import is_new_best

    nan = float("nan")
    history: list[dict[str, float]] = []
    for score, is_best in (
        (nan, True),
        (nan, False),
        (0.5, True),
        (nan, False),
        (0.5, False),
        (0.4, False),
        (0.6, True),
    ):
        assert is_new_best(score, history, "AP") is is_best, (score, history)
        history += [{"AP": score}, {"loss": 1.0}]  # not every epoch is evaluated


def test_predictions_do_not_depend_on_the_rest_of_the_batch(tiny_task: Callable[..., Any]) -> None:
    task = tiny_task()
    model, source = task.build_model(), task.source("val")
    outputs = [
        torch.cat([model.eval()(batch.images)[0] for batch in evaluation_loader(task, source, size)]) for size in (3, 8)
    ]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
