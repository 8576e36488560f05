"""Postprocessing against torchvision's on the same outputs."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from datasets.types import Detections
from results.bench import detection_reference as reference
from tasks.detection import postprocess as postprocess_module
from tasks.detection.faster_rcnn import decode_regions
from tasks.detection.postprocess import PostprocessConfig, postprocess
from tasks.detection.ssd import decode_ssd

NUM_CLASSES = 80


def assert_same(predicted: Sequence[Detections], expected: Sequence[Detections]) -> None:
    """Scores in order; boxes and classes as sets, since the order of equal scores is arbitrary."""
    for image_predicted, image_expected in zip(predicted, expected, strict=True):
        assert image_predicted.scores is not None
        assert image_expected.scores is not None
        np.testing.assert_allclose(image_predicted.scores, image_expected.scores, rtol=1e-4)
        a, b = (
            d.select(np.lexsort((*d.boxes_xyxy.round(1).T, d.class_ids))) for d in (image_predicted, image_expected)
        )
        np.testing.assert_array_equal(a.class_ids, b.class_ids)
        np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.02)


@pytest.mark.parametrize("num_images", [1, 16])
@pytest.mark.parametrize(("score_threshold", "max_detections"), [(0.01, 100), (0.01, 400), (0.2, 100)])
def test_ssd_equals_torchvision(num_images: int, score_threshold: float, max_detections: int) -> None:
    config = PostprocessConfig(300, score_threshold, 0.5, max_detections)
    outputs = reference.ssd_outputs(num_images, NUM_CLASSES)
    predicted = decode_ssd(outputs, config)
    assert min(map(len, predicted)) > 4
    assert_same(predicted, reference.torchvision_ssd(config, topk_candidates=2000)(outputs))


@pytest.mark.parametrize("num_images", [1, 16])
@pytest.mark.parametrize(("score_threshold", "max_detections"), [(0.05, 100), (0.01, 300)])
def test_faster_rcnn_equals_torchvision(num_images: int, score_threshold: float, max_detections: int) -> None:
    config = PostprocessConfig(300, score_threshold, 0.5, max_detections)
    outputs = reference.faster_rcnn_outputs(num_images, NUM_CLASSES)
    predicted = decode_regions(outputs, config)
    assert min(map(len, predicted)) > 4
    assert_same(predicted, reference.torchvision_roi_heads(config)(outputs))


@pytest.mark.parametrize("random_outputs", [reference.ssd_outputs, reference.faster_rcnn_outputs])
def test_more_candidates_change_nothing(
    random_outputs: Callable[[int, int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting with one candidate per detection, with eight, and with all of them."""
    decode: Callable[..., list[Detections]] = decode_ssd if random_outputs is reference.ssd_outputs else decode_regions
    outputs, config = random_outputs(3, 10), PostprocessConfig(300, 0.01, 0.5, 200)
    results = []
    for num_candidates in (1, 8, 10**9):
        monkeypatch.setattr(postprocess_module, "CANDIDATES_PER_DETECTION", num_candidates)
        results.append(decode(outputs, config))
    for result in results[1:]:
        assert_same(results[0], result)


def test_boxes_without_area_are_dropped() -> None:
    scores = torch.tensor([[[0.9], [0.8]]])
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.6], [0.1, 0.1, 0.5, 0.5]])
    (detections,) = postprocess(scores, lambda rows, _: boxes[rows], PostprocessConfig(100, 0.5, 0.5, 10))
    np.testing.assert_allclose(detections.boxes_xyxy, [[10, 10, 50, 50]], rtol=1e-6)


def test_classes_do_not_suppress_each_other() -> None:
    scores = torch.tensor([[[0.9, 0.8], [0.7, 0.1]]])
    boxes = torch.tensor([0.1, 0.1, 0.5, 0.5])
    (detections,) = postprocess(
        scores, lambda rows, _: boxes.expand(*rows.shape, 4), PostprocessConfig(100, 0.05, 0.5, 10)
    )
    assert detections.class_ids.tolist() == [0, 1]
    assert detections.scores is not None
    assert detections.scores.tolist() == pytest.approx([0.9, 0.8])
