from itertools import combinations

import numpy as np
import pytest

from datasets.drawing.boxes import _place_labels, draw_detections
from datasets.drawing.draw import colour, label_size, text_px
from datasets.types import Detections, Image
from tasks.detection.draw import draw_failure_case

BLACK, GREY, WHITE = [0, 0, 0], [90, 90, 90], [255, 255, 255]


def picture(height: int, width: int) -> Image:
    return np.full((height, width, 3), 90, np.uint8)


def test_boxes_are_drawn_in_the_frame_of_the_image() -> None:
    """A box in a 100 px frame is four times as large on a 400 px image; truth is dashed in black and white."""
    image = picture(400, 400)
    predicted = Detections(
        np.array([[20, 40, 60, 80]], np.float32), np.array([1]), (100, 100), scores=np.array([0.5], np.float32)
    )
    truth = Detections(np.array([[5, 90, 15, 98]], np.float32), np.array([0]), (100, 100))
    drawn = draw_detections(image, predicted, truth, ["a", "b"])
    assert drawn[320, 160].tolist() == list(colour(1))
    assert drawn[240, 240].tolist() == list(colour(1))
    edge = drawn[392, 21:60].tolist()
    assert all(pixel in (BLACK, WHITE) for pixel in edge)
    assert 10 < edge.count(WHITE) < 30
    assert drawn[388, 40].tolist() == drawn[396, 40].tolist() == GREY  # thin
    assert (image == 90).all()  # a copy


@pytest.mark.parametrize("num_true", [0, 1])
def test_the_legend_is_below_the_picture_and_only_where_truth_is_drawn(num_true: int) -> None:
    truth = Detections(np.array([[5, 5, 9, 9]], np.float32)[:num_true], np.zeros(num_true, np.int64), (100, 100))
    no_objects = truth.select(np.zeros(num_true, bool))
    drawn = draw_detections(picture(400, 400), no_objects, truth, ["a"])
    assert len(drawn) == (400 if num_true == 0 else 400 + label_size("p", text_px(picture(400, 400)))[1])


def test_predictions_are_above_the_truth() -> None:
    box, class_id = np.array([[50, 50, 300, 300]], np.float32), np.array([0])
    truth = Detections(box, class_id, (400, 400))
    predicted = Detections(box, class_id, (400, 400), scores=np.array([0.5], np.float32))
    edge = draw_detections(picture(400, 400), predicted, truth, ["a"])[100:250, 50]
    assert (edge == colour(0)).all()


def test_labels_cover_neither_each_other_nor_small_boxes_where_there_is_room() -> None:
    boxes = np.array(
        [[100, 100, 200, 200], [104, 98, 210, 200], [100, 80, 130, 100], [0, 0, 90, 90], [600, 0, 640, 40]]
    )
    sizes = [(60, 16)] * len(boxes)
    labels = np.array([[left, top, left + 60, top + 16] for left, top in _place_labels(sizes, boxes, (480, 640))])
    assert (labels[:, :2] >= 0).all()
    assert (labels[:, 2:] <= (640, 480)).all()

    def overlap(one: np.ndarray, other: np.ndarray) -> bool:
        return bool((np.maximum(one[:2], other[:2]) < np.minimum(one[2:], other[2:])).all())

    assert not any(overlap(one, other) for one, other in combinations(labels, 2))
    assert not any(overlap(label, boxes[2]) for label in labels)
    assert labels[3].tolist() == [0, 0, 60, 16]  # inside, since there is no room above


def test_a_failure_case_is_shown_with_its_surroundings() -> None:
    """A box of a tenth of the image's side: a crop of 0.35 of it around the box, enlarged to 320 px."""
    image = picture(480, 640)
    image[:100] = 255  # far from the box
    predicted = Detections(
        np.array([[300, 240, 364, 288]], np.float32), np.array([0]), (480, 640), scores=np.array([0.9], np.float32)
    )
    truth = Detections(np.array([[310, 240, 374, 288], [0, 0, 9, 9]], np.float32), np.array([0, 0]), (480, 640))
    drawn = draw_failure_case(image, predicted, truth, ["a"])
    assert drawn.shape[1] == round(0.35 * 640 * 320 / 168)
    assert not (drawn[:300] == 255).all(2).all(1).any()
    _, columns = np.nonzero((drawn == colour(0)).all(2))
    assert columns.max() - columns.min() == pytest.approx(64 * 320 / 168, abs=3)
    assert (columns.max() + columns.min()) / 2 == pytest.approx(drawn.shape[1] / 2, abs=3)
    at_corner = draw_failure_case(image, predicted.resized((100, 100)), truth, ["a"])
    np.testing.assert_array_equal(at_corner, drawn)  # in any frame


def test_small_images_are_enlarged() -> None:
    no_objects = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (1, 1))
    assert draw_detections(np.zeros((50, 100, 3), np.uint8), no_objects, None, []).shape == (320, 640, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 4000)])
def test_strips_are_drawn_without_filling_the_memory(height: int, width: int) -> None:
    box = np.array([[0, 0, 30, 30], [90, 90, 100, 100]], np.float32)
    predicted = Detections(box, np.array([0, 1]), (100, 100), scores=np.array([0.9, 0.5], np.float32))
    drawn = draw_detections(picture(height, width), predicted, predicted, ["a", "b"])
    failure = draw_failure_case(picture(height, width), predicted.select(np.array([1])), predicted, ["a", "b"])
    assert drawn.size < 3e6
    assert failure.size < 3e6
