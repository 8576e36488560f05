"""The smallest task: it trains, evaluates, predicts and is exported by the common commands."""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.images.read import write_image
from datasets.loader import Collate
from datasets.pillow_resizing import resize_by_pillow
from datasets.sources import Preprocess
from datasets.splits import SplitData
from datasets.transforms import CropAugmentation
from datasets.types import Example, Image, Split
from tasks.common.cli.commands import COMMANDS
from tasks.common.cli.parser import Arguments
from tasks.common.config import BackboneConfig, DataConfig, LoopConfig, OptimConfig, TaskConfig
from tasks.common.deploy.postprocessing import parse_graph
from tasks.common.inference_task import InferenceTask, Metric
from tasks.common.model.logits import Logits, LogitsModel
from tasks.common.runs.pretrained import build_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task
from tasks.common.verbs.evaluate import evaluate
from tasks.common.verbs.export import export
from tasks.common.verbs.predict import predict
from tasks.common.verbs.train import train
from tests.tasks.laws import assert_merge_is_exact

# --- the task: predict the brightness of an image, from 0 to 1


class GreyImages:
    def __init__(self, num_images: int) -> None:
        self.warnings: list[str] = []
        self._levels = np.linspace(20, 235, num_images).astype(np.uint8)

    def __len__(self) -> int:
        return len(self._levels)

    def __getitem__(self, row: int) -> Example[float]:
        return Example(np.full((40, 50, 3), self._levels[row], np.uint8), self.truth(row), self.id(row))

    def id(self, row: int) -> str:
        return f"grey {row}"

    def truth(self, row: int) -> float:
        return float(self._levels[row]) / 255


class BrightnessTargets(NamedTuple):
    values: Tensor  # (N,)


def brightness_targets(examples: Sequence[Example[float]]) -> BrightnessTargets:
    return BrightnessTargets(torch.tensor([example.truth for example in examples]))


class Accuracy(Metric[float]):
    def __init__(self) -> None:
        self.correct: list[bool] = []

    def update(self, predicted: Sequence[float], truth: Sequence[float]) -> None:
        self.correct += [abs(a - b) < 0.1 for a, b in zip(predicted, truth, strict=True)]

    def merge(self, other: Self) -> None:
        self.correct += other.correct

    def compute(self) -> dict[str, float]:
        return {"within_0.1": float(np.mean(self.correct))}

    def write_details(self, folder: Path) -> None:
        (folder / "correct.txt").write_text(f"{sum(self.correct)}")


class BrightnessInference(InferenceTask[float]):
    name, score_name = "brightness", "within_0.1"

    def _open_data(self) -> SplitData[Any]:
        return SplitData(Path(), "grey images", {"train": lambda: GreyImages(40), "val": lambda: GreyImages(11)})

    def source(self, split: Split) -> GreyImages:
        source: GreyImages = self.data[split]
        return source

    def preprocessing(self) -> Preprocess:
        return partial(resize_by_pillow, input_size=self.config.data.input_size)

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[float]:
        brightness: list[float] = outputs["brightness"].tolist()
        return brightness

    def metric(self) -> Accuracy:
        return Accuracy()

    def draw(self, image: Image, predicted: float, truth: float | None = None) -> Image:
        return np.full_like(image, int(np.clip(255 * predicted, 0, 255)))

    def describe(self, predicted: float, image_hw: tuple[int, int]) -> dict[str, Any]:
        return {"brightness": predicted}


class BrightnessTask(BrightnessInference, Task[float]):
    @classmethod
    def from_data(cls, config: Any) -> Self:
        return cls(config, {})

    @classmethod
    def with_num_classes(cls, config: Any, num_classes: int | None) -> Self:
        return cls(config, {})

    def build_model(self) -> LogitsModel:
        return LogitsModel(build_pretrained(self.config, None), 1)

    def augmentation(self) -> CropAugmentation:
        return CropAugmentation(self.config.data.input_size, min_crop_area=0.5, randaugment_ops=0)

    def collate(self) -> Collate[float]:
        return brightness_targets

    def loss(self, outputs: Logits, targets: BrightnessTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        return {"total": (outputs.logits[:, 0] - targets.values).square().mean()}

    def decode(self, outputs: Logits) -> list[float]:
        return outputs.logits[:, 0].tolist()

    def postprocessing(self, network: nn.Module) -> Any:
        text = "squeeze (float[N, 1] logits) => (float[N] brightness) { brightness = Squeeze (logits, axis) }"
        return parse_graph(text, axis=np.array([1]))


# --- its settings


@dataclass(frozen=True, kw_only=True)
class BrightnessData(DataConfig, group="data"):
    input_size: int = 32


@dataclass(frozen=True, kw_only=True)
class BrightnessConfig(TaskConfig):
    data: BrightnessData = field(default_factory=BrightnessData)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    optim = OptimConfig(name="adamw", lr=0.003, epochs=30, batch_size=8, ema_decay=None, weight_decay=0.0)
    backbone = BackboneConfig(name="mobilenet_0.25")
    config = BrightnessConfig(backbone=backbone, optim=optim, loop=LoopConfig(num_workers=0, evaluate_every=10))
    assert command(train, config, resume=None, extend=None, run_dir=str(tmp_path / "run")) == 0
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of a package `tasks.brightness`."""
    for module in ("config", "inference", "task"):
        monkeypatch.setitem(sys.modules, f"tasks.brightness.{module}", sys.modules[__name__])


def command(function: Any, config: Any, **options: Any) -> int:
    task = "brightness" if COMMANDS[function.__name__].is_light else BrightnessTask
    return int(function(task, Arguments(function.__name__, config, options)))


def test_a_task_takes_few_lines() -> None:
    parts = (GreyImages, BrightnessTargets, brightness_targets, Accuracy, BrightnessInference, BrightnessTask)
    lines = [line for part in parts for line in inspect.getsource(part).splitlines() if line.strip()]
    assert len(lines) < 70, len(lines)


def test_it_trains_evaluates_predicts_and_is_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BrightnessConfig(backbone=BackboneConfig(name="mobilenet_0.25"), loop=LoopConfig(num_workers=0))
    score = json.loads((run / "metrics.json").read_text())["within_0.1"]
    assert score > 0.5  # a constant prediction scores 0.27

    same = {"run": str(run), "record": False, "split": "val", "json": True}
    capsys.readouterr()
    assert command(evaluate, config, **same, out=str(tmp_path / "evaluated")) == 0
    assert json.loads(capsys.readouterr().out)["within_0.1"] == score
    assert (tmp_path / "evaluated" / "correct.txt").is_file()

    files = [tmp_path / "dark.png", tmp_path / "light.png"]
    for path, level in zip(files, (30, 220), strict=True):
        write_image(path, np.full((60, 60, 3), level, np.uint8))
    inputs = [str(path) for path in files]
    options = {"inputs": inputs, "save": ["boxes"], "json": False}
    assert command(predict, config, run=str(run), out=str(tmp_path / "predicted"), **options) == 0
    dark, light = map(json.loads, (tmp_path / "predicted" / "predictions.jsonl").read_text().splitlines())
    assert dark["brightness"] < light["brightness"]

    flags = {"int8": False, "finetune": False, "raw": False, "format": "onnx", "max_loss": 0.01}
    assert command(export, config, run=str(run), **flags, out=str(tmp_path / "exported")) == 0
    capsys.readouterr()
    exported = {"run": str(tmp_path / "exported"), "out": str(tmp_path / "evaluated_2")}
    assert command(evaluate, config, **(same | exported)) == 0
    assert json.loads(capsys.readouterr().out)["within_0.1"] == pytest.approx(score, abs=0.1)


def test_its_metric_merges() -> None:
    truth = [GreyImages(11).truth(row) for row in range(11)]
    predicted = [value + 0.02 * row for row, value in enumerate(truth)]
    assert_merge_is_exact(Accuracy, predicted, truth)


def test_it_implements_only_the_abstract_methods() -> None:
    both = vars(BrightnessInference) | vars(BrightnessTask)
    methods = {name for name, value in both.items() if inspect.isroutine(value)}
    assert methods == Task.__abstractmethods__
