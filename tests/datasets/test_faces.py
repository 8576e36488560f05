"""Photos by identity, splits with disjoint identities, LFW's pairs, balanced batches."""

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.faces import (
    IdentityBalance,
    Pair,
    Photo,
    open_faces,
    read_lfw,
    read_pairs,
)
from datasets.splits import Holdout, MissingSplitError


def write(root: Path, **num_photos_of: int) -> Path:
    for name, num_photos in num_photos_of.items():
        (root / name).mkdir(parents=True)
        for photo in range(1, num_photos + 1):
            cv2.imwrite(str(root / name / f"{name}_{photo:04d}.jpg"), np.full((8, 6, 3), 20 * photo, np.uint8))
    return root


def test_reads_identities_and_photo_numbers(tmp_path: Path) -> None:
    photos = open_faces(write(tmp_path, ann=2, bob=3))["train"]
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
    data = open_faces(root, Holdout(0, 0.3))
    assert set(data["train"].identities).isdisjoint(data["val"].identities)
    assert len(data["train"]) + len(data["val"]) == len(open_faces(root)["train"])
    assert open_faces(root, Holdout(0, 0.3))["val"].identities == data["val"].identities
    assert len(open_faces(root, Holdout(0, 1))["val"].identities) == 12
    with pytest.raises(MissingSplitError):
        open_faces(root, Holdout(0, 1))["train"]
    with pytest.raises(MissingSplitError):
        open_faces(root)["val"]


def test_a_hash_of_the_name_of_the_person_decides(tmp_path: Path) -> None:
    root = write(tmp_path, **{f"p{i}": 2 for i in range(60)})
    expected = sorted(
        name
        for name in (f"p{i}" for i in range(60))
        if int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "big") < 0.3 * 2**48
    )
    assert open_faces(root, Holdout(0, 0.3))["val"].identities == expected


def test_folds_divide_the_persons(tmp_path: Path) -> None:
    write(tmp_path / "train", **{f"p{i}": 2 for i in range(20)})
    write(tmp_path / "val", **{f"q{i}": 3 for i in range(10)})
    seen: list[str] = []
    for number in range(4):
        data = open_faces(tmp_path, Holdout(number / 4, (number + 1) / 4, is_fold=True))
        assert set(data["train"].identities).isdisjoint(data["val"].identities)
        assert len(data["train"]) + len(data["val"]) == 70
        assert data["train"].truth(1).image_number == 2
        seen += data["val"].identities
    assert sorted(seen) == sorted([f"p{i}" for i in range(20)] + [f"q{i}" for i in range(10)])


def test_adding_identities_or_photos_moves_no_others(tmp_path: Path) -> None:
    before = open_faces(write(tmp_path, **{f"p{i}": 1 for i in range(60)}), Holdout(0, 0.3))
    assert len(before["val"].identities) == pytest.approx(18, abs=11)  # 3 standard deviations
    old = {split: set(before[split].identities) for split in ("train", "val")}
    write(tmp_path, **{f"a{i}": 1 for i in range(60)})
    cv2.imwrite(str(tmp_path / "p0" / "another.jpg"), np.zeros((8, 6, 3), np.uint8))
    after = open_faces(tmp_path, Holdout(0, 0.3))
    assert all(identities < set(after[split].identities) for split, identities in old.items())


def test_a_single_person_cannot_be_divided(tmp_path: Path) -> None:
    root = write(tmp_path, ann=3)
    with pytest.raises(ValueError, match=r"photos of one person only \(ann\); training and validation need photos of"):
        open_faces(root, Holdout(0, 0.2))["train"]
    assert len(open_faces(root, Holdout(0, 1))["val"]) == 3
    data = open_faces(write(root, bob=1), Holdout(0, 1e-9))
    assert [len(data[split].identities) for split in ("train", "val")] == [1, 1]


def test_persons_with_one_photo_are_kept_and_counted(tmp_path: Path) -> None:
    photos = open_faces(write(tmp_path, ann=1, bob=2, eve=1, zoe=0))["train"]
    assert photos.identities == ["ann", "bob", "eve"]
    assert photos.warnings == [
        f"{tmp_path}: 1 folder (zoe) without photos",
        f"{tmp_path}: 2 persons (ann, eve) of 3 with one photo only, which has no other to match",
    ]


def test_val_is_held_out_of_train_and_test_stays_test(tmp_path: Path) -> None:
    """VGGFace2 has train and test."""
    write(tmp_path / "train", ann=2, bob=2, zoe=2)
    write(tmp_path / "Test", eve=2)
    data = open_faces(tmp_path, Holdout(0, 0.5))
    assert data.names == ("train", "val", "test")
    assert sorted(data["train"].identities + data["val"].identities) == ["ann", "bob", "zoe"]
    assert data["test"].identities == ["eve"]
    write(tmp_path / "Test", bob=1)
    with pytest.raises(ValueError, match=r"1 person \(bob\) in both train and test; expected each in one of them"):
        open_faces(tmp_path, Holdout(0, 0.5))


def test_photos_in_one_flat_folder_are_a_clear_error(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"s{index}_1.jpg").touch()
    with pytest.raises(ValueError, match="4 images in it, and none in a subfolder for each person; expected PERSON/"):
        open_faces(tmp_path)["train"]


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
        ("2\t0\n", "line 1 gives 2 folds of 0 matched"),
        ("2\t1\nAnn\t1\t\t2\nAnn\t1\tBob\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "line 2: '' is not a folder name"),
        ("2\t1\n..\t1\t2\nAnn\t1\tBob\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "line 2: '..' is not a folder name"),
        ("2\t1\nAnn\t²\t2\nAnn\t1\tBob\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "line 2: expected 'name i j'"),
    ],
)
def test_errors_in_pairs_name_the_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(ValueError, match=line):
        read_pairs(tmp_path / "pairs.txt")


def test_pairs_with_a_missing_photo_are_not_scored(tmp_path: Path) -> None:
    write(tmp_path, Ann=4)
    lines = ("Ann\t1\t2", "Ann\t1\tBob\t1", "Ann\t3\t4", "Ann\t2\tBob\t1")
    (tmp_path / "pairs.txt").write_text("2\t1\n" + "\n".join(lines))
    photos, folds = read_lfw(tmp_path)
    assert folds == [[Pair(Photo("Ann", 1), Photo("Ann", 2), True)], [Pair(Photo("Ann", 3), Photo("Ann", 4), True)]]
    assert len(photos) == 5
    assert photos.id(4) == str(tmp_path / "Bob" / "Bob_0001.jpg")  # kept, and counted as unreadable
    (warning,) = photos.warnings
    assert "1 of its 5 photos are missing, so 2 of 4 pairs cannot be scored; the first, " in warning
    (tmp_path / "Ann" / "Ann_0003.jpg").unlink()
    with pytest.raises(ValueError, match=r"3 of 4 pairs cannot be scored.*expected pairs in two folds or more"):
        read_lfw(tmp_path)
    shutil.rmtree(tmp_path / "Ann")
    with pytest.raises(
        ValueError, match=r"pairs.txt: none of its 5 photos is there; the first would be .*Ann_0001.jpg"
    ):
        read_lfw(tmp_path)


def test_photos_of_pairs_may_have_any_suffix(tmp_path: Path) -> None:
    write(tmp_path, Ann=2, Bob=1)
    (tmp_path / "Ann" / "Ann_0002.jpg").rename(tmp_path / "Ann" / "Ann_0002.PNG")
    (tmp_path / "pairs.txt").write_text("2\t1\n" + "Ann\t1\t2\nAnn\t1\tBob\t1\n" * 2)
    photos, _ = read_lfw(tmp_path)
    assert photos.id(1) == str(tmp_path / "Ann" / "Ann_0002.PNG")
    assert photos.warnings == []


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
    orl = open_faces(shared / "data" / "faces" / "identities")["train"]
    assert (len(orl), len(orl.identities)) == (400, 40)
    photos, folds = read_lfw(shared / "data" / "faces" / "lfw")
    assert len(folds) == 10
    assert [sum(pair.same for pair in fold) for fold in folds] == [20] * 10
    assert len({pair for fold in folds for pair in fold}) == 400
    assert len(photos) <= 100
