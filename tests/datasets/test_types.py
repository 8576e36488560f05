import numpy as np

from datasets.types import Detections


def two_objects() -> Detections:
    return Detections(
        np.array([[10, 20, 30, 60], [0, 0, 5, 5]], np.float32),
        np.array([1, 0]),
        (100, 200),
        scores=np.array([0.9, 0.1], np.float32),
        areas_px=np.array([800, 25], np.float32),
    )


def test_resized_scales_each_axis_by_its_own_factor() -> None:
    resized = two_objects().resized((50, 400))  # half as high, twice as wide
    np.testing.assert_allclose(resized.boxes_xyxy[0], [20, 10, 60, 30])
    np.testing.assert_allclose(resized.areas_px, two_objects().areas_px)  # 2 * 1/2
    assert resized.image_hw == (50, 400)


def test_resized_and_back_is_the_same() -> None:
    np.testing.assert_allclose(
        two_objects().resized((33, 77)).resized((100, 200)).boxes_xyxy, two_objects().boxes_xyxy, rtol=1e-5
    )


def test_select_applies_to_every_field() -> None:
    selected = two_objects().select(np.array([False, True]))
    assert len(selected) == 1
    assert selected.class_ids.tolist() == [0]
    assert selected.scores is not None
    assert selected.scores[0] == np.float32(0.1)
    assert selected.is_crowd is None
