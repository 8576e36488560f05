"""Splits of photos by place and author: laws for any photos, and error lines."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from datasets.geolocation.coordinates import Photos
from datasets.geolocation.geotagged import GeotaggedPhotos, split_photos
from datasets.geolocation.sphere import distance_km, to_lat_lng
from datasets.splits import Holdout, MissingSplitError, SplitData
from datasets.stores import ImageFiles


def photos_at(lat_deg: Any, lng_deg: Any, authors: list[str] | None = None) -> Photos:
    """Photos named by their indices."""
    images = ImageFiles(Path("photos"), [f"{index}" for index in range(len(lat_deg))])
    names = None if authors is None else np.array(authors)
    return Photos(images, np.asarray(lat_deg, float), np.asarray(lng_deg, float), authors=names)


def split(
    photos: Photos, val_fraction: float, group_by: Literal["place", "author"], group_km: float = 1
) -> SplitData[GeotaggedPhotos]:
    holdout = Holdout(0, val_fraction)
    return split_photos(photos, holdout, root=Path("photos"), found="photos", group_by=group_by, group_km=group_km)


def by_place(photos: Photos, val_fraction: float, group_km: float) -> tuple[set[int], set[int], list[str]]:
    """The indices of the photos of train and val, and the warnings."""
    splits = split(photos, val_fraction, "place", group_km)
    train, val = ({int(Path(splits[s].id(row)).name) for row in range(len(splits[s]))} for s in ("train", "val"))
    assert splits["train"].warnings == splits["val"].warnings
    return train, val, splits["train"].warnings


def towns(seed: int, spread_km: float, num_photos: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos in thirty towns, some at the poles and on the antimeridian."""
    rng = np.random.default_rng(seed)
    lat_deg, lng_deg = to_lat_lng(rng.normal(size=(30, 3)))
    lat_deg[:5], lng_deg[5:10] = (90, 90, -90, -90, 89.999), 180
    town = rng.integers(30, size=num_photos)
    lat_deg = np.clip(lat_deg[town] + rng.normal(0, spread_km / 111, num_photos), -90, 90)
    lng_scale = np.maximum(np.cos(np.radians(lat_deg)), 1e-3)
    return lat_deg, (lng_deg[town] + rng.normal(0, spread_km / 111, num_photos) / lng_scale + 180) % 360 - 180


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("group_km", [0.5, 5, 400])
def test_no_training_photo_is_near_a_validation_photo(seed: int, group_km: float) -> None:
    lat_deg, lng_deg = towns(seed, 8 * group_km, 1000)
    train, val, warnings = by_place(photos_at(lat_deg, lng_deg), 0.3, group_km)
    left_out = set(range(1000)) - train - val
    assert train
    assert val
    assert not train & val
    distances = distance_km(lat_deg[:, None], lng_deg[:, None], lat_deg[list(val)], lng_deg[list(val)]).min(1)
    assert distances[list(train)].min() > group_km
    assert (distances[list(left_out)] <= group_km).all()
    num_train = len(train | left_out)
    line = f"{len(left_out)} of {num_train} training photos are within {group_km:g} km (data.group_km) of a validation"
    assert bool(left_out) == any(line in warning for warning in warnings)


@pytest.mark.parametrize("seed", range(5))
def test_added_photos_move_no_others(seed: int) -> None:
    lat_deg, lng_deg = towns(seed, 30, 2000)
    train, val, _ = by_place(photos_at(lat_deg[:1000], lng_deg[:1000]), 0.2, 2)
    all_train, all_val, _ = by_place(photos_at(lat_deg, lng_deg), 0.2, 2)
    old = set(range(1000))
    assert all_val & old == val
    assert all_train & old <= train  # more of them can be near a validation photo


def test_many_towns_give_the_fraction_and_few_photos_are_left_out() -> None:
    """A country of 300 towns in which 1 km links a quarter of all photos into one cluster."""
    rng = np.random.default_rng(0)
    num_photos = 50_000
    weight = 1 / np.arange(1, 301)
    town = rng.choice(300, num_photos, p=weight / weight.sum())
    spread_km = 2 + 10 * np.sqrt(weight[town])
    centres = rng.uniform((47, 7), (50, 11), (300, 2))[town]
    lat_deg, lng_deg = (centres + rng.normal(0, 1, (num_photos, 2)) * spread_km[:, None] / (111.2, 75)).T
    train, val, _ = by_place(photos_at(lat_deg, lng_deg), 0.1, 1)
    left_out = 1 - (len(train) + len(val)) / num_photos
    print(f"300 towns: {len(train)} for training, {len(val)} for validation, {left_out:.3f} left out")
    assert 0.05 < len(val) / num_photos < 0.15
    assert left_out < 0.06
    lat_deg, lng_deg = to_lat_lng(rng.normal(size=(num_photos, 3)))  # no towns
    _, val, warnings = by_place(photos_at(lat_deg, lng_deg), 0.1, 20)
    assert len(val) / num_photos == pytest.approx(0.1, abs=0.01)
    assert len(warnings) == 1


def test_errors_of_splits_by_place() -> None:
    with pytest.raises(
        ValueError, match=r"10 photos cannot .* one cell of 10 km, 10 times data.group_km; a smaller data"
    ):
        by_place(photos_at(np.full(10, 5.0), np.full(10, 6.0)), 0.1, 1)
    # On the equator the longitude 0 is a border of cells of any size.
    lng_deg = np.repeat([-1e-4, 1e-4], 3)
    with pytest.raises(
        ValueError, match=r"3 of 3 training photos are within 1 km .*, which leaves none; a smaller data"
    ):
        by_place(photos_at(np.zeros(6), lng_deg), 0.1, 1)
    # A seventh photo elsewhere remains, unless its cell has the smallest hash.
    warnings_of = [by_place(photos_at(np.zeros(7), [*lng_deg, lng]), 1e-9, 1)[2] for lng in range(10, 20)]
    few = [
        line
        for warnings in warnings_of
        for line in warnings
        if line.startswith("3 of 4 training photos are within 1 km")
    ]
    assert few
    assert all(
        line.endswith("left out; a smaller data.group_km, data.group_by author or a column 'split' helps")
        for line in few
    )
    assert split(photos_at(np.full(10, 5.0), np.full(10, 6.0)), 1, "place").names == ("val",)


def test_each_author_is_in_one_split() -> None:
    authors = [f"author {index % 50}" for index in range(500)]
    photos = photos_at(np.zeros(500), np.zeros(500), authors)
    splits = split(photos, 0.2, "author")
    train, val = (
        {authors[int(Path(splits[s].id(row)).name)] for row in range(len(splits[s]))} for s in ("train", "val")
    )
    assert len(train) + len(val) == 50
    assert not train & val
    assert len(splits["train"]) + len(splits["val"]) == 500  # no buffer between authors
    with_more = photos_at(np.zeros(550), np.zeros(550), authors + [f"new {index}" for index in range(50)])
    more = split(with_more, 0.2, "author")
    assert {more["val"].id(row) for row in range(len(more["val"]))} >= {
        splits["val"].id(row) for row in range(len(splits["val"]))
    }
    with pytest.raises(ValueError, match=r"3 photos cannot be split by author: all are by 'x'; data.group_by place"):
        split(photos_at([1, 2, 3], [1, 2, 3], ["x"] * 3), 0.2, "author")


def test_folds_of_places_and_authors_have_each_photo_once() -> None:
    lat_deg, lng_deg = towns(3, 8, 600)
    authors = [f"author {index % 23}" for index in range(600)]
    photos = photos_at(lat_deg, lng_deg, authors)
    for group_by in ("place", "author"):
        seen: list[str] = []
        for number in range(4):
            holdout = Holdout(number / 4, (number + 1) / 4, is_fold=True)
            data = split_photos(photos, holdout, root=Path(), found="", group_by=group_by, group_km=1)  # type: ignore[arg-type]
            val = {data["val"].id(row) for row in range(len(data["val"]))}
            train = {data["train"].id(row) for row in range(len(data["train"]))}
            assert not train & val
            if group_by == "place":
                rows = [[int(Path(name).name) for name in side] for side in (train, val)]
                (lat, lng), (val_lat, val_lng) = ((lat_deg[side], lng_deg[side]) for side in rows)
                assert distance_km(lat[:, None], lng[:, None], val_lat, val_lng).min() > 1
            else:
                assert len(train | val) == 600
            seen += val
        assert sorted(seen) == sorted(f"photos/{index}" for index in range(600))


def test_a_validation_part_is_held_out_of_train_and_test_stays_test() -> None:
    lat_deg, lng_deg = towns(4, 8, 400)
    photos = photos_at(lat_deg, lng_deg)
    own = np.array(["train"] * 300 + ["test"] * 60 + [""] * 40)
    with_own = Photos(photos.images, photos.lat_deg, photos.lng_deg, own)
    data = split(with_own, 0.3, "place")
    assert data.names == ("train", "val", "test")
    assert [data["test"].id(row) for row in range(60)] == [f"photos/{index}" for index in range(300, 360)]
    alone = split(photos.select(np.arange(300)), 0.3, "place")
    for name in ("train", "val"):
        assert [data[name].id(row) for row in range(len(data[name]))] == [
            alone[name].id(row) for row in range(len(alone[name]))
        ]
    assert "photos: 40 photos in no split left out" in data["train"].warnings
    nothing = split_photos(with_own, None, root=Path("photos"), found="", group_by="place", group_km=1)
    assert len(nothing["train"]) == 300
    with pytest.raises(MissingSplitError):
        nothing["val"]
