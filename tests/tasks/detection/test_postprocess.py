"""The boxes that are chosen, against torchvision's choice from the same outputs."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from datasets.types import Detections
from tasks.detection import postprocess as postprocess_module
from tasks.detection import reference
from tasks.detection.faster_rcnn import decode_regions
from tasks.detection.postprocess import PostprocessConfig, postprocess
from tasks.detection.ssd import decode_ssd

NUM_CLASSES = 80


def assert_same(ours: Sequence[Detections], theirs: Sequence[Detections]) -> None:
    """Scores in order; boxes and classes as sets, since equal scores may come in any order."""
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.scores is not None
        assert other.scores is not None
        np.testing.assert_allclose(mine.scores, other.scores, rtol=1e-4)
        by_place = [np.lexsort((*d.boxes_xyxy.round(1).T, d.class_ids)) for d in (mine, other)]
        np.testing.assert_array_equal(mine.class_ids[by_place[0]], other.class_ids[by_place[1]])
        np.testing.assert_allclose(mine.boxes_xyxy[by_place[0]], other.boxes_xyxy[by_place[1]], atol=0.02)


@pytest.mark.parametrize("num_images", [1, 16])
@pytest.mark.parametrize(("threshold", "number"), [(0.01, 100), (0.01, 400), (0.2, 100)])
def test_ssd_chooses_as_torchvision(num_images: int, threshold: float, number: int) -> None:
    limits = PostprocessConfig(300, threshold, 0.5, number)
    outputs = reference.ssd_outputs(num_images, NUM_CLASSES)
    ours = decode_ssd(outputs, limits)
    assert min(map(len, ours)) > 4
    assert_same(ours, reference.torchvision_ssd(limits, topk_candidates=2000)(outputs))


@pytest.mark.parametrize("num_images", [1, 16])
@pytest.mark.parametrize(("threshold", "number"), [(0.05, 100), (0.01, 300)])
def test_faster_rcnn_chooses_as_torchvision(num_images: int, threshold: float, number: int) -> None:
    limits = PostprocessConfig(300, threshold, 0.5, number)
    outputs = reference.faster_rcnn_outputs(num_images, NUM_CLASSES)
    ours = decode_regions(outputs, limits)
    assert min(map(len, ours)) > 4
    assert_same(ours, reference.torchvision_roi_heads(limits)(outputs))


@pytest.mark.parametrize("outputs", [reference.ssd_outputs, reference.faster_rcnn_outputs])
def test_more_candidates_change_nothing(outputs: Callable[[int, int], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """From one candidate for each detection on, as many as it takes; and from all of them."""
    decode: Callable[..., list[Detections]] = decode_ssd if outputs is reference.ssd_outputs else decode_regions
    raw, limits = outputs(3, 10), PostprocessConfig(300, 0.01, 0.5, 200)
    found = []
    for first in (1, 8, 10**9):
        monkeypatch.setattr(postprocess_module, "CANDIDATES_PER_DETECTION", first)
        found.append(decode(raw, limits))
    for other in found[1:]:
        assert_same(found[0], other)


def test_a_box_without_area_is_none() -> None:
    scores = torch.tensor([[[0.9], [0.8]]])
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.6], [0.1, 0.1, 0.5, 0.5]])
    (found,) = postprocess(scores, lambda places, _: boxes[places], PostprocessConfig(100, 0.5, 0.5, 10))
    np.testing.assert_allclose(found.boxes_xyxy, [[10, 10, 50, 50]], rtol=1e-6)


def test_classes_do_not_suppress_each_other() -> None:
    scores = torch.tensor([[[0.9, 0.8], [0.7, 0.1]]])
    boxes = torch.tensor([0.1, 0.1, 0.5, 0.5])
    (found,) = postprocess(
        scores, lambda places, _: boxes.expand(*places.shape, 4), PostprocessConfig(100, 0.05, 0.5, 10)
    )
    assert found.class_ids.tolist() == [0, 1]
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
