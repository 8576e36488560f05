"""Labels, captions, bars and sheets."""

import numpy as np

from datasets.drawing.draw import (
    RIGHT,
    WHITE,
    WRONG,
    add_caption,
    contact_sheet,
    join_panel,
    label_size,
    put_label,
    shorten,
    text_px,
)
from tasks.common.drawing.bars import Bar, draw_bars


def grey(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_labels_are_as_large_as_promised_and_inside_the_image() -> None:
    for left, top in ((-50, -50), (20, 30), (500, 500)):
        image = grey(100, 200)
        put_label(image, "RBC 0.95", left, top, WHITE, 13)
        rows, columns = np.nonzero((image != 90).any(2))
        width, height = label_size("RBC 0.95", 13)
        assert (columns.max() - columns.min() + 1, rows.max() - rows.min() + 1) == (width, height)


def test_text_grows_with_the_image() -> None:
    """In proportion, not below a size that can be read, and not too wide for a narrow image."""
    assert text_px(grey(480, 640)) == 14
    assert text_px(grey(3000, 4000)) == text_px(grey(4000, 3000)) == 88
    assert text_px(grey(150, 200)) == 13
    for height, width in ((480, 640), (3000, 4000), (2400, 600), (1280, 320)):
        label_width, label_height = label_size("person 0.93", text_px(grey(height, width)))
        assert label_width < width / 2
        assert 1 / 60 < label_height / max(height, width) < 1 / 25


def test_labels_and_their_padding_grow_in_proportion() -> None:
    sizes = np.array([label_size("person 0.93", size_px) for size_px in (20, 40, 80)])
    np.testing.assert_allclose(sizes[1:] / sizes[:-1], 2, rtol=0.1)


def test_texts_are_shortened_to_a_width() -> None:
    assert shorten("short", 100, 13) == "short"
    cut = shorten("a name that is much too long", 100, 13)
    assert cut.endswith("…")
    assert 80 < label_size(cut, 13)[0] <= 100
    assert len(shorten("wide", 3, 13)) < len("wide")


def test_captions_hide_nothing() -> None:
    image = grey(100, 200)
    below, above = add_caption(image, "some words"), add_caption(image, "some words", is_title=True)
    np.testing.assert_array_equal(below[:100], image)
    np.testing.assert_array_equal(above[-100:], image)
    assert (below[100:] < 90).any()
    assert (above[:-100] < 90).any()


def test_bars_are_as_long_as_their_values() -> None:
    chart = draw_bars([Bar("one", 0.8, RIGHT), Bar("two", 0.4, WRONG)], threshold=0.5)
    lengths = [int((chart == colour).all(2).any(0).sum()) for colour in (RIGHT, WRONG)]
    assert abs(lengths[0] - 2 * lengths[1]) <= 2


def test_a_value_that_is_nan_has_no_bar() -> None:
    chart = draw_bars([Bar("one", float("nan"), RIGHT)])
    assert (chart == RIGHT).all(2).any(0).sum() == 1


def test_many_bars_fit() -> None:
    chart = draw_bars([Bar(f"a very long name of attribute {row}", row / 39, RIGHT) for row in range(40)])
    assert not (chart[:, -1] == RIGHT).all(1).any()


def test_a_photo_beside_a_panel_is_whole() -> None:
    panel = grey(300, 200, 10)
    for shape in ((600, 400), (100, 1000), (1000, 100)):
        both = join_panel(grey(*shape), panel)
        assert len(both) == 300
        rows, columns = np.nonzero((both == 90).all(2))
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert abs(height / width - shape[0] / shape[1]) < 0.05 * shape[0] / shape[1]
        np.testing.assert_array_equal(both[:, -200:], panel)


def test_a_sheet_has_each_picture_once_and_whole() -> None:
    values = list(range(10, 50, 10))
    sheet = contact_sheet([grey(300, 400, value) for value in values])
    assert sheet.shape[1] == 1440
    areas = [int((sheet == value).all(2).sum()) for value in values]
    assert areas == [476 * 357] * 4
    assert contact_sheet([grey(300, 400)]).shape[1] == 480
    assert contact_sheet([grey(100, 400)] * 3).shape[1] == 1440  # wide ones: two in a row
    assert contact_sheet([grey(100, 100)] * 5, columns=5).shape == (288, 1440, 3)
