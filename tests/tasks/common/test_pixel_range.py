"""`data.pixel_range` reaches everything that reads images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from torch import nn

from datasets.images.read import AS_STORED, Decoding, read_image
from datasets.types import PreparedImage
from tasks.common.config import DataConfig
from tasks.common.evaluation import predict
from tasks.common.evaluation.prediction_files import PredictionFiles
from tasks.common.runtime.repository import ROOT
from tasks.common.settings import read_config
from tasks.common.task import Task
from tasks.registry import TASKS, config_class, task_class

RANGE = (100.0, 4095.0)


@pytest.mark.parametrize("name", TASKS)
def test_sources_decode_in_the_range(name: str) -> None:
    config: Any = read_config(config_class(name), ROOT / "configs" / name / "sample.yaml")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, pixel_range=RANGE))
    task: Any = task_class(name).from_data(config)
    assert task.decoding == Decoding(pixel_range=RANGE)
    for split in ("train", "val"):
        assert task.source(split).decoding.pixel_range == RANGE


def test_predict_decodes_in_the_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 bits in a file of 16, as from a microscope: nearly black without the range."""
    monkeypatch.setattr(predict, "predict_pixels", lambda _task, _model, pixels: [0 for _ in pixels])
    values = np.full((20, 30), 4095, np.uint16)
    Pillow.fromarray(values).save(tmp_path / "a.png")

    class Any12Bit:
        def __init__(self, decoding: Decoding) -> None:
            self.decoding = decoding

        def prepare(self, image: Any) -> list[PreparedImage]:
            return [PreparedImage(image)]

        def describe(self, *_: Any) -> dict[str, Any]:
            return {}

        describe_all, draw_all = Task.describe_all, Task.draw_all

        def draw(self, image: Any, _: Any) -> Any:
            return image

    for decoding, brightness in ((Decoding(pixel_range=RANGE), 255), (AS_STORED, 16)):
        out = tmp_path / str(brightness)
        out.mkdir()
        task: Any = Any12Bit(decoding)
        with PredictionFiles(out, "") as files:
            predict.predict_files(task, nn.Identity(), [tmp_path / "a.png"], files)
        assert read_image(out / "a.jpg").mean() == pytest.approx(brightness, abs=1)


@pytest.mark.parametrize("pixel_range", [(1, 1), (4095, 0), (0, float("inf")), (float("nan"), 1)])
def test_a_range_is_two_numbers_the_lower_one_first(pixel_range: Any) -> None:
    with pytest.raises(ValueError, match=r"^data\.pixel_range: expected two numbers, the lower one first"):
        DataConfig(pixel_range=pixel_range)
