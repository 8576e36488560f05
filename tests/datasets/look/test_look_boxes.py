"""Boxes: what is not worth training on is an error, boxes in another convention are recognised, good ones pass."""

import numpy as np
import pytest

from datasets.look.detection import look_at_boxes
from tests.datasets.look.builders import HEIGHT, WIDTH, annotated, random_boxes, texts


def clipped(boxes: np.ndarray) -> list[list[float]]:
    return np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist()


def test_random_boxes_pass(rng: np.random.Generator) -> None:
    sources = {"train": annotated(random_boxes(300, rng)), "val": annotated(random_boxes(60, rng))}
    assert look_at_boxes(sources, input_size=300) == []


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("crowd", [True, False])
def test_a_split_without_boxes_is_an_error(split: str, crowd: bool, rng: np.random.Generator) -> None:
    """Whether there are only crowds, or none at all."""
    good = annotated(random_boxes(20, rng))
    bad = annotated(random_boxes(20, rng) if crowd else [], num_images=20, crowd=crowd)
    findings = look_at_boxes({"train": good, "val": good} | {split: bad}, input_size=None)
    (line,) = texts(findings, "error")
    assert line.startswith(f"{split}: ")
    assert ("crowds" in line) == crowd


def test_classes_without_boxes_are_named(rng: np.random.Generator) -> None:
    classes = ("cells", "a", "b", "c")
    train = annotated(random_boxes(20, rng), classes=classes, class_ids=[1, 2] * 10)
    val = annotated(random_boxes(20, rng), classes=classes, class_ids=[1, 3] * 10)
    findings = look_at_boxes({"train": train, "val": val}, input_size=None)
    (warning,) = texts(findings, "warning")
    assert warning.startswith("2 of 4 classes have no box in train: cells, c; val has boxes of 1 of them")
    (note,) = texts(findings, "note")
    assert note == "1 of 4 classes have no box in val, and no score: b"


def test_images_without_boxes_are_counted(rng: np.random.Generator) -> None:
    findings = look_at_boxes({"train": annotated(random_boxes(20, rng), num_images=23)}, input_size=None)
    assert texts(findings, "note") == ["3 of 23 images of train have no box: they are background"]


def test_corners_read_as_sizes_are_recognised(rng: np.random.Generator) -> None:
    """[x0, y0, x1, y1] read as [x, y, width, height]."""
    true = np.array(random_boxes(200, rng))
    read = np.concatenate([true[:, :2], true[:, :2] + true[:, 2:]], 1)
    warnings = texts(look_at_boxes({"train": annotated(clipped(read))}, input_size=None), "warning")
    assert any("look like corners" in line for line in warnings)


def test_centres_read_as_corners_are_recognised(rng: np.random.Generator) -> None:
    true = np.array(random_boxes(200, rng))
    half = np.tile((true[:, 2:] - true[:, :2]) / 2, 2)
    (warning,) = texts(look_at_boxes({"train": annotated(clipped(true + half))}, input_size=None), "warning")
    assert "look like centres" in warning


def test_boxes_of_smaller_images_are_recognised(rng: np.random.Generator) -> None:
    boxes = (np.array(random_boxes(200, rng)) / 2).tolist()
    (warning,) = texts(look_at_boxes({"train": annotated(boxes)}, input_size=None), "warning")
    assert "smaller version of the images" in warning


def test_boxes_in_one_corner_of_few_images_are_no_evidence() -> None:
    assert look_at_boxes({"train": annotated([[1, 1, 20, 20], [2, 2, 31, 12]])}, input_size=None) == []


def test_fractions_are_recognised(rng: np.random.Generator) -> None:
    fractions = (np.array(random_boxes(10, rng)) / [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist()
    findings = look_at_boxes({"train": annotated(random_boxes(20, rng) + fractions)}, input_size=None)
    (warning,) = texts(findings, "warning")
    assert warning.startswith("10 of 30 boxes are under 2 px wide or high in their image; these look like fractions")
    assert "data/20.png" in warning


def test_tiny_boxes_are_measured_at_the_input() -> None:
    """A box of 4 x 4 px in an image of 100 x 80 has 1.6 x 2 px at an input of 40 px."""
    source = {"train": annotated([*[[10, 10, 40, 50]] * 3, [10, 10, 14, 14]])}
    assert look_at_boxes(source, input_size=None) == []
    (warning,) = texts(look_at_boxes(source, input_size=40), "warning")
    assert warning.startswith("1 of 4 boxes are under 2 px wide or high at the network's input of 40 px")


def test_boxes_of_whole_images_and_of_one_size_are_found(rng: np.random.Generator) -> None:
    whole = [[0, 0, WIDTH, HEIGHT]] * 30
    warnings = texts(look_at_boxes({"train": annotated(whole)}, input_size=None), "warning")
    assert any(line.startswith("30 of 30 boxes cover more than 95% of their image") for line in warnings)
    points = [[x - 5, y - 5, x + 5, y + 5] for x, y in rng.uniform(5, 75, (30, 2))]
    (warning,) = texts(look_at_boxes({"train": annotated(points)}, input_size=None), "warning")
    assert warning.startswith("30 of 30 boxes are 10 x 10 px; these look like points")


def test_repeated_boxes_are_counted_by_image_and_class(rng: np.random.Generator) -> None:
    boxes = random_boxes(30, rng)
    source = annotated(
        [*boxes, boxes[0], boxes[0], boxes[0]],  # the same again, in another image, of another class
        rows=[*range(30), 0, 1, 0],
        class_ids=[*[0] * 30, 0, 0, 1],
    )
    (warning,) = texts(look_at_boxes({"train": source}, input_size=None), "warning")
    assert warning == "1 of 33 boxes repeat another of their image and class (the first in data/0.png)"


def test_areas_that_are_missing_void_or_too_large_are_found(rng: np.random.Generator) -> None:
    boxes = random_boxes(30, rng)
    true = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]

    def findings(areas: list[float]) -> list[str]:
        return [text for _, text in look_at_boxes({"train": annotated(boxes, areas=areas)}, input_size=None)]

    assert findings([0.6 * area for area in true]) == []  # of masks
    assert findings([np.nan] * 30) == []  # a format without areas
    (line,) = findings([*true[:-2], np.nan, np.nan])
    assert line.startswith("2 of 30 boxes have no area")
    (line,) = findings([*true[:-2], -1, 0])
    assert line.startswith("2 of 30 boxes have an area of 0 or less")
    (line,) = findings([4 * area for area in true])
    assert line.startswith("30 of 30 boxes have an annotated area larger than their box, 4 times in the middle")
