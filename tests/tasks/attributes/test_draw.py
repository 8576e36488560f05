import numpy as np

from datasets.drawing.draw import RIGHT, UNKNOWN, WRONG
from datasets.types import Attributes
from tasks.attributes.draw import draw_attributes

NAMES = ["Bushy_Eyebrows", "Beard", "Hat"]


def num_pixels(truth: Attributes | None, threshold: float = 0.5) -> list[int]:
    """Of bars that are right, wrong and unknown."""
    predicted = Attributes(np.array([0.8, 0.4, 0.2], np.float32))
    picture = draw_attributes(np.full((50, 40, 3), 90, np.uint8), predicted, truth, NAMES, threshold)
    return [int((picture == colour).all(2).sum()) for colour in (RIGHT, WRONG, UNKNOWN)]


def test_bars_are_right_wrong_or_unknown() -> None:
    right, wrong, unknown = num_pixels(Attributes(np.array([1, 1, 0], np.float32)))
    assert unknown == 0
    assert 2.2 < right / wrong < 2.8  # 0.8 + 0.2 against 0.4
    right, wrong, unknown = num_pixels(Attributes(np.array([1, 1, 0], np.float32)), threshold=0.4)
    assert wrong == 0 < right  # 0.4 is enough now
    right, wrong, unknown = num_pixels(None)
    assert right == wrong == 0 < unknown


def test_the_most_probable_are_drawn_where_not_all_fit() -> None:
    values = np.linspace(0, 1, 40, dtype=np.float32)
    names = list(map(str, range(40)))
    image = np.full((50, 40, 3), 90, np.uint8)
    np.testing.assert_array_equal(
        draw_attributes(image, Attributes(values), None, names, 0.5),
        draw_attributes(image, Attributes(values[24:]), None, names[24:], 0.5),
    )
