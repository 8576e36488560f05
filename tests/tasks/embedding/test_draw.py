"""Photos with their embeddings, the sheet of matches, and the plot of embeddings."""

from pathlib import Path

import numpy as np
import pytest

from datasets.drawing.draw import RIGHT, UNKNOWN, WRONG
from datasets.images.read import write_image
from datasets.types import Face, Image
from tasks.embedding.draw import MAX_MATCHES, draw_face, draw_matches, draw_space
from tasks.embedding.gallery import Entry, Match
from tasks.embedding.verification import OperatingPoint


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, str]:
    """By person and number; each of one colour."""
    paths = {}
    for index, name in enumerate(("anna/1", "anna/2", "bela/1", "elsewhere/1")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        write_image(path, np.full((40, 30, 3), (9, 60 + 20 * index, 30), np.uint8))
        paths[name] = str(path)
    return paths


def num_pixels(sheet: Image, colour: tuple[int, ...]) -> int:
    return int((sheet == colour).all(2).sum())


def test_frames_are_of_identities_and_the_query_is_left_out(photos: dict[str, str]) -> None:
    matches = [
        Match(photos[name], similarity) for name, similarity in (("anna/1", 1), ("anna/2", 0.9), ("bela/1", 0.5))
    ]
    sheet = draw_matches([(Entry(photos["anna/1"]), matches)], None)
    assert num_pixels(sheet, RIGHT) == num_pixels(sheet, WRONG) > 0
    assert num_pixels(sheet, (9, 60, 30)) == num_pixels(sheet, (9, 80, 30)) > 0  # the query's photo is there once

    for query, found in (("elsewhere/1", matches), ("anna/1", matches[:2])):  # not in the gallery; a single folder
        sheet = draw_matches([(Entry(photos[query]), found)], None)
        assert num_pixels(sheet, RIGHT) == num_pixels(sheet, WRONG) == 0


def test_matches_below_the_threshold_are_pale(photos: dict[str, str]) -> None:
    matches = [Match(photos["anna/2"], 0.9), Match(photos["bela/1"], 0.5)]
    sheet = draw_matches([(Entry(photos["anna/1"]), matches)], OperatingPoint(0.01, 100, 0.7, 0.6))
    assert num_pixels(sheet, (9, 80, 30))
    assert not num_pixels(sheet, (9, 100, 30))


def test_photos_that_are_gone_are_grey(photos: dict[str, str]) -> None:
    sheet = draw_matches([(Entry(photos["anna/1"]), [Match(photos["anna/2"] + ".moved", 0.9)])], None)
    assert num_pixels(sheet, (127,) * 3) > 40_000


def test_the_face_of_a_match_has_a_box(photos: dict[str, str]) -> None:
    plain, boxed = (
        draw_matches([(Entry(photos["anna/1"]), [Match(photos["anna/2"], 0.9, box)])], None)
        for box in (None, (5.0, 5.0, 20.0, 20.0))
    )
    assert num_pixels(plain, UNKNOWN) == 0 < num_pixels(boxed, UNKNOWN)


def test_only_the_best_matches_are_drawn(photos: dict[str, str]) -> None:
    matches = [Match(photos["anna/2"], 0.9)] * 2000
    np.testing.assert_array_equal(
        draw_matches([(Entry(photos["anna/1"]), matches)], None),
        draw_matches([(Entry(photos["anna/1"]), matches[:MAX_MATCHES])], None),
    )


def test_a_strip_is_drawn_without_filling_the_memory() -> None:
    embedding = Face(embedding=np.ones(8, np.float32))
    assert draw_face(np.zeros((2, 4000, 3), np.uint8), embedding, None).size < 1e6


def test_the_plot_takes_any_number_of_identities(rng: np.random.Generator, tmp_path: Path) -> None:
    embeddings = rng.normal(size=(40, 8)).astype(np.float32)
    for num_identities in (1, 3, 20):
        path = tmp_path / f"{num_identities}.png"
        draw_space(embeddings, [str(row % num_identities) for row in range(40)], path)
        assert path.is_file()
