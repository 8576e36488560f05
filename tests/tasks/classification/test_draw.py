import numpy as np

from datasets.types import Label
from tasks.classification.draw import NEUTRAL, RIGHT, WRONG, draw_label, rank_classes


def colours(predicted: Label, truth: Label | None) -> set[tuple[int, ...]]:
    picture = draw_label(np.full((50, 100, 3), 90, np.uint8), predicted, truth, ["a", "b", "c", "d"])
    assert picture.shape == (320, 640, 3)
    return {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()}


def test_the_top_class_is_green_or_red() -> None:
    predicted = Label(1, np.array([0.1, 0.6, 0.3, 0.0], np.float32))
    assert RIGHT in colours(predicted, Label(1))
    assert WRONG not in colours(predicted, Label(1))
    assert WRONG in colours(predicted, Label(2))
    assert not {RIGHT, WRONG} & colours(predicted, None)
    assert NEUTRAL in colours(predicted, None)


def test_classes_are_ranked_by_probability() -> None:
    assert rank_classes(Label(1, np.array([0.1, 0.6, 0.3, 0.1], np.float32))) == [1, 2, 0, 3]
    assert rank_classes(Label(3)) == [3]
