"""The drawn sample is data like any other: official layout, honest boxes, the same everywhere."""

from pathlib import Path

import numpy as np
import pytest

from datasets.coco import CocoDetection
from datasets.files import CACHE_VARIABLE
from datasets.sample import detection
from datasets.sample.detection import PAINTERS, draw_scene, sample_root


def test_reads_as_official_layout_without_repairs(drawn_root: Path) -> None:
    for split, number in (("train2017", 24), ("val2017", 8)):
        data = CocoDetection(drawn_root / split, drawn_root / "annotations" / f"instances_{split}.json")
        assert len(data) == number
        assert data.categories.names == tuple(PAINTERS)
        assert data.warnings == []


def test_scenes_are_functions_of_their_seed() -> None:
    first, first_objects = draw_scene(np.random.default_rng(1))
    again, again_objects = draw_scene(np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert first_objects == again_objects


def test_boxes_are_inside_and_every_kind_occurs() -> None:
    seen = set()
    for seed in range(60):
        image, objects = draw_scene(np.random.default_rng(seed))
        for category_id, (x, y, width, height) in objects:
            seen.add(category_id)
            assert 0 <= x < x + width <= image.shape[1]
            assert 0 <= y < y + height <= image.shape[0]
    assert seen == set(range(1, len(PAINTERS) + 1))


def test_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    written = []
    monkeypatch.setattr(detection, "write_sample", lambda root: written.append(root))
    assert sample_root() == sample_root()
    assert len(written) == 1
    assert [path.name for path in tmp_path.iterdir()] == [sample_root().name]
