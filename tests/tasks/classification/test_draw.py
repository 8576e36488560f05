import numpy as np

from datasets.drawing.draw import RIGHT, UNKNOWN, WRONG
from datasets.types import Label
from tasks.classification.draw import draw_label, rank_classes

NAMES = ["a", "b", "c", "d"]
PREDICTED = Label(1, np.array([0.1, 0.6, 0.3, 0.0], np.float32))


def colours_of_bars(truth: Label | None) -> list[tuple[int, ...]]:
    """From top to bottom, each once."""
    picture = draw_label(np.full((50, 100, 3), 90, np.uint8), PREDICTED, truth, NAMES)
    pixels = map(tuple, picture.reshape(-1, 3).tolist())
    return list(dict.fromkeys(pixel for pixel in pixels if pixel in {RIGHT, WRONG, UNKNOWN}))


def test_the_true_class_is_green_and_a_wrong_top_class_red() -> None:
    assert colours_of_bars(Label(1)) == [RIGHT, UNKNOWN]
    assert colours_of_bars(Label(2)) == [WRONG, RIGHT, UNKNOWN]
    assert colours_of_bars(None) == [UNKNOWN]


def test_the_photo_is_whole_and_the_true_class_below_it() -> None:
    image = np.full((50, 100, 3), (9, 90, 30), np.uint8)
    without, with_truth = (draw_label(image, PREDICTED, truth, NAMES) for truth in (None, Label(0)))
    assert (without == (9, 90, 30)).all(2).sum() == 480 * 240
    np.testing.assert_array_equal(with_truth[: len(without), :488], without[:, :488])
    assert (with_truth[len(without) :] < 90).any()


def test_classes_are_ranked_by_probability() -> None:
    assert rank_classes(Label(1, np.array([0.1, 0.6, 0.3, 0.1], np.float32))) == [1, 2, 0, 3]
    assert rank_classes(Label(3)) == [3]
