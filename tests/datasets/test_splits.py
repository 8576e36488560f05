"""The parts of a data set: laws of the hash, of folds, and of the splits that data have."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.splits import (
    Holdout,
    MissingSplitError,
    SplitData,
    hold_out,
    split_folders,
    split_named,
    validation_rows,
)
from datasets.types import Split


def hash_of(name: str) -> int:
    return int(hashlib.blake2b(name.encode(), digest_size=6).hexdigest(), 16)


def side_of(names: list[str], val_fraction: float) -> dict[str, bool]:
    return dict(zip(names, validation_rows(names, Holdout(0, val_fraction)).tolist(), strict=True))


def test_a_hash_of_the_name_decides() -> None:
    names = [f"é{index}.jpg" for index in range(2000)]
    is_val = validation_rows(names, Holdout(0, 0.2))
    assert is_val.tolist() == [5 * hash_of(name) < 1 << 48 for name in names]
    assert is_val.mean() == pytest.approx(0.2, abs=0.03)  # 3.4 standard deviations
    assert (validation_rows(names, Holdout(0, 0.3)) >= is_val).all()  # a larger fraction only adds names
    assert validation_rows(["a\udcff.jpg", "b"], Holdout(0, 0.5)).sum() == 1  # a file name that is not UTF-8


def test_added_names_move_no_others() -> None:
    names = [f"{index}" for index in range(300)]
    before, after = side_of(names, 0.2), side_of([f"new {index}" for index in range(300)] + names, 0.2)
    assert {name: after[name] for name in names} == before


def test_the_fallback_has_the_smallest_or_the_largest_hash() -> None:
    names = [f"{index}" for index in range(9)]
    in_order = sorted(names, key=hash_of)
    assert [name for name, is_val in side_of(names, 1e-9).items() if is_val] == in_order[:1]
    assert [name for name, is_val in side_of(names, 1 - 1e-9).items() if not is_val] == in_order[-1:]


@pytest.mark.parametrize("val_fraction", [0.001, 0.05, 0.5, 0.95, 0.999])
def test_neither_side_is_empty_and_only_a_fallback_changes_sides(val_fraction: float) -> None:
    for trial in range(50):
        names = [f"{trial}/{index}" for index in range(6)]
        before = side_of(names[:2], val_fraction)
        for num_names in range(3, 7):
            after = side_of(names[:num_names], val_fraction)
            assert 0 < sum(after.values()) < num_names
            moved = [name for name in before if after[name] != before[name]]
            assert len(moved) <= 1
            # It was the only one on its side.
            assert all(list(before.values()).count(before[name]) == 1 for name in moved)
            before = after


def test_photos_of_one_name_stay_together_and_a_fraction_of_1_takes_all() -> None:
    names = [f"{index % 40}" for index in range(500)]
    is_val = validation_rows(names, Holdout(0, 0.2))
    sides = {(name, bool(side)) for name, side in zip(names, is_val, strict=True)}
    assert len(sides) == 40
    assert validation_rows(names, Holdout(0, 1)).all()
    assert validation_rows(["alone"], Holdout(0, 1)).all()


@pytest.mark.parametrize("num_folds", [2, 5, 7])
def test_folds_divide_the_names(num_folds: int) -> None:
    names = [f"{index}" for index in range(400)]
    folds = [Holdout.from_settings(0.2, f"{number}/{num_folds}") for number in range(1, num_folds + 1)]
    in_folds = np.sum([validation_rows(names, fold) for fold in folds if fold is not None], 0)
    assert in_folds.tolist() == [1] * 400
    first = folds[0]
    assert first is not None
    np.testing.assert_array_equal(validation_rows(names, first), validation_rows(names, Holdout(0, 1 / num_folds)))


@pytest.mark.parametrize("holdout", [Holdout(0, 1e-12), Holdout(0.5, 0.5 + 1e-12), Holdout(1 - 1e-12, 1)])
def test_a_range_without_names_takes_the_nearest(holdout: Holdout) -> None:
    names = [f"{index}" for index in range(9)]
    (name,) = (name for name, is_val in zip(names, validation_rows(names, holdout), strict=True) if is_val)
    assert name == min(names, key=lambda other: abs(hash_of(other) / (1 << 48) - holdout.start))


class Names(list[str]):
    """Examples that are names."""

    def select(self, rows: NDArray[np.bool_]) -> "Names":
        return Names(name for name, row in zip(self, rows, strict=True) if row)


def join(parts: Sequence[Names]) -> Names:
    return Names(name for part in parts for name in part)


def held_out(names: Names, holdout: Holdout) -> NDArray[np.bool_]:
    return validation_rows(names, holdout)


def data(**sizes: int) -> SplitData[Names]:
    readers = {split: lambda s=split, n=n: Names(f"{s}{index}" for index in range(n)) for split, n in sizes.items()}
    return SplitData(Path("folder"), "names", readers)  # type: ignore[arg-type]  # the names of splits as keywords


def divide(source: SplitData[Names], val_fraction: float | None, fold: str | None = None) -> SplitData[Names]:
    return hold_out(source, Holdout.from_settings(val_fraction, fold), val_rows=held_out, join=join)


def test_data_with_a_val_part_keep_it() -> None:
    source = data(train=9, val=3)
    assert divide(source, 0.2) is source
    assert divide(source, None) is source


@pytest.mark.parametrize("others", [{}, {"test": 4}])
def test_a_val_part_is_held_out_of_train_and_never_of_test(others: dict[str, int]) -> None:
    divided = divide(data(train=50, **others), 0.3)
    assert divided.names == ("train", "val", *others)
    assert sorted(divided["train"] + divided["val"]) == sorted(f"train{index}" for index in range(50))
    assert divided["val"] == [f"train{i}" for i in range(50) if hash_of(f"train{i}") < 0.3 * (1 << 48)]
    assert all(len(divided[split]) == others[split] for split in divided.names if split in others)


def test_a_fold_joins_train_and_val() -> None:
    source = data(train=40, val=10, test=5)
    folds = [divide(source, 0.2, f"{number}/4") for number in range(1, 5)]
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(source["train"] + source["val"])
    for fold in folds:
        assert not set(fold["train"]) & set(fold["val"])
        assert len(fold["train"]) + len(fold["val"]) == 50
        assert fold["test"] == source["test"]


@pytest.mark.parametrize(
    ("sizes", "split", "message"),
    [
        ({"train": 5}, "val", "no images for val .*found: train.*data.val_fraction"),
        ({"train": 5}, "test", "no images for test .*found: train"),
        ({"val": 5}, "train", "no images for train .*found: val"),
        ({"train": 5, "val": 0}, "val", "no images for val"),
    ],
)
def test_a_missing_split_is_named(sizes: dict[str, int], split: Split, message: str) -> None:
    with pytest.raises(MissingSplitError, match=f"folder: there are {message}"):
        divide(data(**sizes), None)[split]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN2017", "train"),
        ("train_2", "train"),
        ("val", "val"),
        ("Valid", "val"),
        ("validation", "val"),
        ("val2017", "val"),
        ("Test", "test"),
        ("trainer", None),
        ("trains", None),
        ("vale", None),
        ("2017", None),
        ("", None),
    ],
)
def test_names_of_splits(name: str, split: Split | None) -> None:
    assert split_named(name) == split


def test_folders_of_splits_are_in_order(tmp_path: Path) -> None:
    for name in ("Test", "valid", "train2", "train1", "other", ".train"):
        (tmp_path / name).mkdir()
    (tmp_path / "val").touch()
    assert split_folders(tmp_path) == {"train": ["train1", "train2"], "val": ["valid"], "test": ["Test"]}
    assert list(split_folders(tmp_path)) == ["train", "val", "test"]
