"""Classes, persons, attributes and places: something to learn and something to score."""

from pathlib import Path

import numpy as np
import pytest

from datasets.celeba import AttributeImages
from datasets.classification.labelled import LabelledImages
from datasets.faces import FaceImages
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.look.attributes import look_at_attributes
from datasets.look.faces import look_at_identities
from datasets.look.labelled import look_at_classes
from datasets.look.places import look_at_places
from tests.datasets.look.builders import files, texts

ROOT = Path("data")
CITIES = [
    *[(48.86, 2.35), (52.52, 13.4), (41.9, 12.5), (40.42, -3.7), (51.51, -0.13), (59.33, 18.07), (55.76, 37.62)],
    *[(40.71, -74.01), (41.88, -87.63), (19.43, -99.13), (4.71, -74.07), (-12.05, -77.04), (-23.55, -46.63)],
    *[(-34.6, -58.38), (30.04, 31.24), (-1.29, 36.82), (9.06, 7.49), (28.61, 77.21), (23.81, 90.41), (33.68, 73.05)],
    *[(35.69, 51.39), (39.93, 32.86), (24.71, 46.68), (-15.78, -47.93), (39.74, -104.99), (-33.45, -70.67)],
]


def labelled(class_ids: list[int]) -> LabelledImages:
    return LabelledImages(files(ROOT, [f"{row}.png" for row in range(len(class_ids))]), class_ids, ["a", "b", "c"])


def faces(persons: str) -> FaceImages:
    return FaceImages(files(ROOT, [f"{row}.png" for row in range(len(persons))]), list(persons), [1] * len(persons))


def attributes(values: list[list[int]]) -> AttributeImages:
    names = [f"{row}.png" for row in range(len(values))]
    array = np.array(values) == 1
    return AttributeImages(files(ROOT, names), array, "abcdefgh"[: array.shape[1]])


def photos(places: list[tuple[float, float]]) -> GeotaggedPhotos:
    lat_deg, lng_deg = np.array(places, float).T
    return GeotaggedPhotos(files(ROOT, [f"{row}.png" for row in range(len(places))]), lat_deg, lng_deg)


def test_one_class_is_an_error_and_missing_ones_are_named() -> None:
    assert list(look_at_classes({"train": labelled([0, 1, 2]), "val": labelled([0, 1, 2])})) == []
    (error,) = texts(list(look_at_classes({"train": labelled([1, 1])})), "error")
    assert "'b'" in error
    findings = list(look_at_classes({"train": labelled([0, 1]), "val": labelled([0, 2])}))
    assert texts(findings, "warning") == [
        "1 of 3 classes have no images in train: c; val has images of 1 of them, which no model will get right"
    ]
    assert texts(findings, "note") == ["1 of 3 classes have no images in val: b"]


@pytest.mark.parametrize(
    ("train", "val", "num_errors"),
    [
        ("aabb", "ccd", 0),  # two pairs to learn; a matching pair and others to score
        ("abcdefgh", "ccd", 1),  # one photo of each
        ("aab", "ccd", 1),  # one person with two
        ("aaaa", "ccd", 1),
        ("aabb", "cde", 1),  # no matching pair
        ("aabb", "cccc", 1),  # no other pair
        ("ab", "c", 2),
    ],
)
def test_persons_need_matching_and_other_pairs(train: str, val: str, num_errors: int) -> None:
    findings = list(look_at_identities({"train": faces(train), "val": faces(val)}))
    assert len(texts(findings, "error")) == num_errors == len(findings)


def test_attributes_that_are_the_same_in_all_images_are_named() -> None:
    good = attributes([[1, -1], [-1, 1]])
    assert list(look_at_attributes({"train": good, "val": good})) == []
    (error,) = list(look_at_attributes({"train": attributes([[1, -1]] * 4)}))
    assert error.severity == "error"
    (warning,) = list(look_at_attributes({"train": good, "val": attributes([[1, -1], [-1, -1]])}))
    assert warning == (
        "warning",
        "val: 1 of 2 attributes are the same in all images and cannot be scored: b (none)",
    )


def test_images_without_any_attribute_are_counted_where_they_are_more_than_natural(rng: np.random.Generator) -> None:
    rows = [[1, -1] * 4, [-1, 1] * 4] * 10 + [[-1] * 8] * 3
    (note,) = list(look_at_attributes({"train": attributes(rows)}))
    assert note.text.startswith("train: 3 of 23 images have none of the attributes")
    assert "20.png" in note.text
    independent = np.where(rng.random((1000, 4)) < 0.3, 1, -1)  # 0.7 to the power of 4 is a quarter
    assert list(look_at_attributes({"train": attributes(independent.tolist())})) == []


def test_cities_pass() -> None:
    assert list(look_at_places({"train": photos(CITIES), "val": photos([(47.5, 19.04), (50.08, 14.44)])})) == []


def test_photos_at_0_0_are_counted() -> None:
    (warning,) = list(look_at_places({"train": photos([*CITIES, (0, 0), (0, 0)])}))
    assert warning.severity == "warning"
    assert warning.text.startswith(f"2 of {len(CITIES) + 2} photos are at latitude 0, longitude 0")
    assert f"{len(CITIES)}.png" in warning.text


def test_one_place_is_an_error() -> None:
    (error,) = texts(list(look_at_places({"train": photos([CITIES[0]] * 9)})), "error")
    assert "one place" in error


def test_swapped_coordinates_and_lost_signs_are_recognised() -> None:
    swapped = [(lng, lat) for lat, lng in CITIES if abs(lng) <= 90]
    (warning,) = texts(list(look_at_places({"train": photos(swapped)})), "warning")
    assert warning.endswith("latitude and longitude look swapped")
    australia = [(-20 - row, 125 + 2 * column) for row in range(5) for column in range(6)]  # inland
    unsigned = [(-lat, lng) for lat, lng in australia]
    (warning,) = texts(list(look_at_places({"train": photos(unsigned)})), "warning")
    assert "latitudes look lost" in warning


def test_places_of_train_and_repeated_places_are_counted() -> None:
    (note,) = list(look_at_places({"train": photos(CITIES), "val": photos([CITIES[0], (47.5, 19.04)])}))
    assert note.text.startswith("1 of 2 photos of val are at exactly the place of a photo of train")
    (note,) = list(look_at_places({"train": photos([*CITIES, *[(47.5, 19.04)] * 20])}))
    assert note.text.startswith(f"20 of {len(CITIES) + 20} photos are at exactly 47.5, 19.04")
