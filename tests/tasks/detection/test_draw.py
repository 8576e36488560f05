import numpy as np

from datasets.types import Detections
from tasks.common.drawing.draw import colour
from tasks.detection.draw import draw_detections


def test_boxes_are_drawn_in_the_frame_of_the_image() -> None:
    """A box in a 100 px frame is four times as large on a 400 px image; truth is white."""
    image = np.zeros((400, 400, 3), np.uint8)
    predicted = Detections(
        np.array([[20, 40, 60, 80]], np.float32), np.array([1]), (100, 100), scores=np.array([0.5], np.float32)
    )
    truth = Detections(np.array([[5, 90, 15, 98]], np.float32), np.array([0]), (100, 100))
    drawn = draw_detections(image, predicted, truth, ["a", "b"])
    assert drawn[320, 160].tolist() == list(colour(1))
    assert drawn[240, 240].tolist() == list(colour(1))
    assert drawn[392, 40].tolist() == [255, 255, 255]
    assert not image.any()  # a copy


def test_small_images_are_enlarged() -> None:
    no_objects = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (1, 1))
    assert draw_detections(np.zeros((50, 100, 3), np.uint8), no_objects, None, []).shape == (320, 640, 3)
