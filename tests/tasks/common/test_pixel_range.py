"""`data.pixel_range` reaches everything that reads images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from datasets.images.read import AS_STORED, Decoding
from tasks.common.config import DataConfig
from tasks.common.prediction.find import open_source
from tasks.common.runtime.repository import ROOT
from tasks.common.settings import read_config
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


def test_predict_decodes_in_the_range(tmp_path: Path) -> None:
    """12 bits in a file of 16, as from a microscope: nearly black without the range."""
    values = np.full((20, 30), 4095, np.uint16)
    Pillow.fromarray(values).save(tmp_path / "a.png")
    for decoding, brightness in ((Decoding(pixel_range=RANGE), 255), (AS_STORED, 16)):
        (image,) = open_source(tmp_path / "a.png", decoding)
        assert image.image.mean() == pytest.approx(brightness, abs=1)


@pytest.mark.parametrize("pixel_range", [(1, 1), (4095, 0), (0, float("inf")), (float("nan"), 1)])
def test_a_range_is_two_numbers_the_lower_one_first(pixel_range: Any) -> None:
    with pytest.raises(ValueError, match=r"^data\.pixel_range: expected two numbers, the lower one first"):
        DataConfig(pixel_range=pixel_range)
