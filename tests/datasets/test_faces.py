"""Photos by identity, splits with disjoint identities, LFW's pairs, balanced batches."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.faces import (
    IdentityBalance,
    Pair,
    Photo,
    read_identities,
    read_lfw,
    read_pairs,
    split_identities,
)


def write(root: Path, **num_photos_of: int) -> Path:
    for name, num_photos in num_photos_of.items():
        (root / name).mkdir(parents=True)
        for photo in range(1, num_photos + 1):
            cv2.imwrite(str(root / name / f"{name}_{photo:04d}.jpg"), np.full((8, 6, 3), 20 * photo, np.uint8))
    return root


def test_reads_identities_and_photo_numbers(tmp_path: Path) -> None:
    photos = read_identities(write(tmp_path, ann=2, bob=3))
    assert [(photos.truth(row).identity, photos.truth(row).image_number) for row in range(5)] == [
        *(("ann", 1), ("ann", 2)),
        *(("bob", 1), ("bob", 2), ("bob", 3)),
    ]
    assert photos[4].image.mean() == pytest.approx(60, abs=2)
    others = photos.without({"ann", "eve"})
    assert others.identities == ["bob"]
    assert [others.id(row) for row in range(3)] == [photos.id(row) for row in range(2, 5)]


def test_splits_have_disjoint_identities(tmp_path: Path) -> None:
    root = write(tmp_path, **{f"p{i}": 2 + i % 3 for i in range(12)})
    splits = split_identities(root, val_fraction=0.3)
    assert set(splits["train"].identities).isdisjoint(splits["val"].identities)
    assert len(splits["train"]) + len(splits["val"]) == len(read_identities(root))
    again = split_identities(root, val_fraction=0.3)
    assert again["val"].identities == splits["val"].identities
    assert list(split_identities(root, val_fraction=1)) == ["val"]
    assert list(split_identities(root, val_fraction=0)) == ["train"]


def test_adding_identities_or_photos_moves_no_others(tmp_path: Path) -> None:
    before = split_identities(write(tmp_path, **{f"p{i}": 1 for i in range(60)}), val_fraction=0.3)
    assert len(before["val"].identities) == pytest.approx(18, abs=11)  # 3 standard deviations
    write(tmp_path, **{f"a{i}": 1 for i in range(60)})
    cv2.imwrite(str(tmp_path / "p0" / "another.jpg"), np.zeros((8, 6, 3), np.uint8))
    after = split_identities(tmp_path, val_fraction=0.3)
    assert set(before["train"].identities) < set(after["train"].identities)
    assert set(before["val"].identities) < set(after["val"].identities)


def test_a_single_identity_cannot_be_split(tmp_path: Path) -> None:
    root = write(tmp_path, ann=3)
    with pytest.raises(ValueError, match="photos of 1 identity; a split needs at least 2"):
        split_identities(root, val_fraction=0.2)
    assert len(split_identities(root, val_fraction=1)["val"]) == 3
    splits = split_identities(write(root, bob=1), val_fraction=1e-9)
    assert [len(splits[split].identities) for split in ("train", "val")] == [1, 1]


def test_data_with_a_split_keep_it(tmp_path: Path) -> None:
    """VGGFace2 calls its second split `test`."""
    write(tmp_path / "train", ann=2, bob=2)
    write(tmp_path / "test", eve=2)
    splits = split_identities(tmp_path, val_fraction=0.5)
    assert (splits["train"].identities, splits["val"].identities) == (["ann", "bob"], ["eve"])
    write(tmp_path / "test", bob=1)
    with pytest.raises(ValueError, match="1 identities are in both train and val; first bob"):
        split_identities(tmp_path, val_fraction=0.5)


def test_reads_pairs_in_folds(tmp_path: Path) -> None:
    write(tmp_path, Ann_Lee=3, Bob=2)
    (tmp_path / "pairs.txt").write_text("2\t1\nAnn_Lee\t1\t3\nAnn_Lee\t2\tBob\t1\nBob\t1\t2\nAnn_Lee\t3\tBob\t2\n")
    photos, folds = read_lfw(tmp_path)
    assert folds == [
        [Pair(Photo("Ann_Lee", 1), Photo("Ann_Lee", 3), True), Pair(Photo("Ann_Lee", 2), Photo("Bob", 1), False)],
        [Pair(Photo("Bob", 1), Photo("Bob", 2), True), Pair(Photo("Ann_Lee", 3), Photo("Bob", 2), False)],
    ]
    assert [photos.truth(row).image_number for row in range(5)] == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("10\n", "line 1: expected the numbers of folds"),
        ("2\t1\nAnn\t1\t2\n", "line 1 gives 2 folds of 1 matched and 1 mismatched pairs, but 1 lines follow"),
        ("2\t1\nAnn 1 2\nAnn\t1\tBob\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "line 2: expected 'name i j'"),
        ("2\t1\nAnn\t1\t2\nAnn\t1\tBob\tx\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "line 3: expected 'name i j'"),
        ("2\t1\n../Ann\t1\t2\nAnn\t1\tBob\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "line 2: '../Ann' is not a folder name"),
        ("", "line 1: expected"),
    ],
)
def test_errors_in_pairs_name_the_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(ValueError, match=line):
        read_pairs(tmp_path / "pairs.txt")


def test_missing_photos_are_named(tmp_path: Path) -> None:
    write(tmp_path, Ann=2)
    (tmp_path / "pairs.txt").write_text("2\t1\n" + "Ann\t1\t2\nAnn\t1\tBob\t1\n" * 2)
    with pytest.raises(ValueError, match=r"1 of 3 photos of .*pairs.txt are missing; first .*Bob_0001.jpg"):
        read_lfw(tmp_path)
    with pytest.raises(ValueError, match="no such folder; expected one with a subfolder for each person"):
        read_identities(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no photos; expected a subfolder"):
        read_identities(tmp_path / "empty")


def test_batches_have_p_identities_times_k_photos(rng: np.random.Generator) -> None:
    identity_ids = np.repeat(np.arange(10), np.arange(1, 11) * 4)  # 4 to 40 photos each, 220 in all
    order = IdentityBalance(identity_ids, 4)(rng, 20)
    assert len(order) == 220
    for batch in order.reshape(-1, 5, 4):
        ids = identity_ids[batch]
        assert (ids == ids[:, :1]).all()  # one identity per row
        assert len(set(ids[:, 0].tolist())) == 5  # five different ones
        assert all(len(set(photos)) == 4 for photos in batch.tolist())  # four different photos


def test_all_identities_are_equally_frequent() -> None:
    identity_ids = np.repeat(np.arange(5), [2, 10, 100, 400, 488])
    order = IdentityBalance(identity_ids, 2)(np.random.default_rng(0), 4)
    frequencies = np.bincount(identity_ids[order]) / len(order)
    assert frequencies == pytest.approx(np.full(5, 0.2), abs=0.05)


def test_few_identities_and_photos_still_fill_a_batch() -> None:
    order = IdentityBalance(np.array([0, 0, 0, 1, 1, 1, 1, 1]), 4)(np.random.default_rng(0), 8)
    assert sorted(np.array([0, 0, 0, 1, 1, 1, 1, 1])[order].tolist()) == [0] * 4 + [1] * 4


@pytest.mark.data
def test_real_layouts(shared: Path) -> None:
    orl = read_identities(shared / "data" / "faces" / "identities")
    assert (len(orl), len(orl.identities)) == (400, 40)
    photos, folds = read_lfw(shared / "data" / "faces" / "lfw")
    assert len(folds) == 10
    assert [sum(pair.same for pair in fold) for fold in folds] == [20] * 10
    assert len({pair for fold in folds for pair in fold}) == 400
    assert len(photos) <= 100
