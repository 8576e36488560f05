"""Readers of labelled images: official layouts give the correct classes, and errors are specific."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datasets.images import write_image
from datasets.labelled import LabelledImages, read_folders, read_imagenet, read_stanford_dogs
from datasets.sample.classification import SPECIES, write_sample
from datasets.types import Split


def make_images(root: Path, **num_images_of: int) -> None:
    """Folders with that many images, each filled with its index."""
    for folder, num_images in num_images_of.items():
        (root / folder).mkdir(parents=True)
        for index in range(num_images):
            write_image(root / folder / f"{index}.png", np.full((8, 8, 3), index, np.uint8))


def contents(source: LabelledImages) -> list[tuple[str, int]]:
    return [(Path(source.id(i)).parent.name, source.truth(i).class_id) for i in range(len(source))]


def test_train_and_val_folders(tmp_path: Path) -> None:
    make_images(tmp_path / "train", cat=2, dog=1, eel=1)
    make_images(tmp_path / "val", cat=1, eel=2)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    train, val = (read_folders(tmp_path, split, val_fraction=0.2) for split in ("train", "val"))
    assert contents(train) == [("cat", 0), ("cat", 0), ("dog", 1), ("eel", 2)]
    assert contents(val) == [("cat", 0), ("eel", 2), ("eel", 2)]
    assert val.class_names == train.class_names == ("cat", "dog", "eel")
    assert train[1].image[0, 0, 0] == 1
    assert train[1].id == str(tmp_path / "train" / "cat" / "1.png")


def names_of(root: Path, split: Split, val_fraction: float) -> set[str]:
    source = read_folders(root, split, val_fraction=val_fraction)
    return {str(Path(source.id(i)).relative_to(root)) for i in range(len(source))}


def test_folders_without_a_split_are_split_by_hash(tmp_path: Path) -> None:
    make_images(tmp_path / "one", cat=200, dog=2, eel=5)
    train, val = (read_folders(tmp_path / "one", split, val_fraction=0.2) for split in ("train", "val"))
    assert len(train) + len(val) == 207
    assert {class_id for _, class_id in contents(train)} == {class_id for _, class_id in contents(val)} == {0, 1, 2}
    names = [names_of(tmp_path / "one", split, 0.2) for split in ("train", "val")]
    assert not names[0] & names[1]
    assert sum(name.startswith("cat") for name in names[1]) == pytest.approx(40, abs=17)  # 3 standard deviations
    shutil.copytree(tmp_path / "one", tmp_path / "another")
    assert names_of(tmp_path / "another", "val", 0.2) == names[1]  # independent of the folder's path


def test_adding_images_moves_no_others(tmp_path: Path) -> None:
    make_images(tmp_path, ape=20, cat=20, dog=20)
    before = {split: names_of(tmp_path, split, 0.2) for split in ("train", "val")}
    for index in range(20):
        write_image(tmp_path / "cat" / f"{index}-new.png", np.zeros((8, 8, 3), np.uint8))
    make_images(tmp_path, bee=20)
    for split, names in before.items():
        assert names < names_of(tmp_path, split, 0.2)


@pytest.mark.parametrize("val_fraction", [1e-9, 1 - 1e-9])
def test_each_class_is_in_both_splits_and_adding_images_affects_only_their_class(
    tmp_path: Path, val_fraction: float
) -> None:
    make_images(tmp_path, cat=9, dog=2)
    smaller: Split = "val" if val_fraction < 0.5 else "train"
    before = names_of(tmp_path, smaller, val_fraction)
    assert sorted(name[:3] for name in before) == ["cat", "dog"]
    for index in range(90):
        write_image(tmp_path / "cat" / f"{index}-new.png", np.zeros((8, 8, 3), np.uint8))
    after = names_of(tmp_path, smaller, val_fraction)
    assert sorted(name[:3] for name in after) == ["cat", "dog"]
    assert {name for name in after if name.startswith("dog")} == {name for name in before if name.startswith("dog")}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({}, "0 subfolders; expected one for each class"),
        ({"cat": 3}, "1 subfolders"),
        ({"cat": 3, "dog": 1}, "dog: 1 images; a class needs at least 2"),
        ({"train/cat": 1, "train/dog": 1, "val/fox": 1, "val/cat": 1}, r"val.fox: not one of the 2 classes \(cat, dog"),
        ({"train/cat": 1, "train/dog": 1}, "val: no such folder"),
        ({"train/cat": 1, "train/dog": 1, "val/cat": 0, "val/dog": 0}, "there are no images in it"),
    ],
)
def test_invalid_folders_are_named(tmp_path: Path, folders: dict[str, int], message: str) -> None:
    make_images(tmp_path, **folders)
    with pytest.raises(ValueError, match=message):
        read_folders(tmp_path, "val", val_fraction=0.5)


def test_an_empty_class_gives_a_warning(tmp_path: Path) -> None:
    make_images(tmp_path / "train", cat=1, dog=0)
    assert read_folders(tmp_path, "train", val_fraction=0.5).warnings == [
        f"{tmp_path / 'train'}: 1 class folders without images; first dog"
    ]


@pytest.mark.parametrize("file", ["classes.txt", "LOC_synset_mapping.txt"])
def test_imagenet_class_ids_follow_the_list(tmp_path: Path, file: str) -> None:
    """Half of the classes have no images: the sorted folders would have ids 0 and 1."""
    make_images(tmp_path / "val", n02=1, n04=1)
    (tmp_path / file).write_text("n01 a fish\nn02 a cat\nn03 a dog\nn04 an eel, a long one\n")
    source = read_imagenet(tmp_path, "val")
    assert contents(source) == [("n02", 1), ("n04", 3)]
    assert source.class_names == ("a fish", "a cat", "a dog", "an eel, a long one")


def test_imagenet_class_ids_without_a_list_follow_the_training_folders(tmp_path: Path) -> None:
    make_images(tmp_path / "train", n01=1, n02=1, n03=1)
    make_images(tmp_path / "val", n01=1, n03=1)
    assert contents(read_imagenet(tmp_path, "val")) == [("n01", 0), ("n03", 2)]


def test_invalid_imagenet_lists_are_named(tmp_path: Path) -> None:
    make_images(tmp_path / "val", n02=1, n04=1)
    for text, message in (
        ("n02\nn04\n", "a line 'wnid name'"),
        ("n02 a\nn02 b\n", "duplicate wnid"),
        ("n01 a\nn02 b\n", "n04"),
    ):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_imagenet(tmp_path, "val")


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    write_sample(tmp_path, {"train": 2, "test": 1})
    return tmp_path


def test_stanford_dogs_layout(dogs: Path) -> None:
    train, val = read_stanford_dogs(dogs, "train"), read_stanford_dogs(dogs, "val")
    assert (len(train), len(val)) == (2 * len(SPECIES), len(SPECIES))
    assert train.class_names == val.class_names == tuple(species.name.replace("_", " ") for species in SPECIES)
    assert [val.truth(i).class_id for i in range(len(val))] == list(range(len(SPECIES)))
    assert val[3].image.shape == (160, 160, 3)


def test_stanford_dogs_errors_are_named(dogs: Path) -> None:
    valid = scipy.io.loadmat(dogs / "test_list.mat")

    def write(**changes: object) -> None:
        content = {k: v for k, v in (valid | changes).items() if v is not None and not k.startswith("_")}
        scipy.io.savemat(dogs / "test_list.mat", content)

    def fails(match: str) -> None:
        with pytest.raises(ValueError, match=match) as raised:
            read_stanford_dogs(dogs, "val")
        assert "\n" not in str(raised.value)

    write(labels=np.roll(valid["labels"], 1))
    fails(r"test_list\.mat: 'n00000000-Round_plain/.*' has label 16, which is 'n00000015-")
    write(labels=None)
    fails(r"test_list\.mat: expected a list of Stanford Dogs.*KeyError")
    write(labels=valid["labels"][:3])
    fails("of equal length, got 16 and 3")
    write()
    (dogs / "test_list.mat").write_bytes((dogs / "test_list.mat").read_bytes()[:300])
    fails(r"test_list\.mat: expected a list of Stanford Dogs")
    (dogs / "test_list.mat").unlink()
    fails("no such file")
    write()
    shutil.rmtree(next((dogs / "Images").iterdir()))
    fails(r"images of .* are missing")


@pytest.mark.data
def test_real_data_sets(shared: Path) -> None:
    """The counts in ../shared/data/README.md."""
    train, val = (read_stanford_dogs(shared / "data" / "stanford_dogs", split) for split in ("train", "val"))
    assert (len(train), len(val), len(train.class_names)) == (1440, 720, 120)
    assert train.class_names[:2] == ("Chihuahua", "Japanese spaniel")
    sample = read_imagenet(shared / "data" / "imagenet_sample", "val")
    assert (len(sample), len(sample.class_names)) == (500, 1000)
    by_id = {Path(sample.id(i)).name: sample.truth(i).class_id for i in range(len(sample))}
    assert by_id["n02012849_crane.JPEG"] == 134  # the bird; the machine is 517
    assert sorted(by_id.values()) == list(range(0, 1000, 2))
