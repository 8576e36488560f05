"""Class folders in all their usual forms: correct classes and splits, nothing passed over in silence, clear errors."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets.classification.class_folders import find_format, open_labelled, read_class_folders, read_imagenet
from datasets.classification.labelled import LabelledImages
from datasets.images.read import write_image
from datasets.splits import Holdout, MissingSplitError, SplitData
from datasets.types import Split

FIFTH = Holdout(0, 0.2)


def make_images(root: Path, **num_images_of: int) -> None:
    """Folders with that many images, each filled with its index."""
    for folder, num_images in num_images_of.items():
        (root / folder).mkdir(parents=True)
        for index in range(num_images):
            write_image(root / folder / f"{index}.png", np.full((8, 8, 3), index, np.uint8))


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def contents(source: LabelledImages) -> list[tuple[str, int]]:
    return [(Path(source.id(i)).parent.name, source.truth(i).class_id) for i in range(len(source))]


def names_of(data: SplitData[LabelledImages], split: Split) -> set[str]:
    source = data[split]
    return {str(Path(source.id(i)).relative_to(data.root)) for i in range(len(source))}


def test_train_and_val_folders(tmp_path: Path) -> None:
    make_images(tmp_path / "train", cat=2, dog=1, eel=1)
    make_images(tmp_path / "val", cat=1, eel=2)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    touch(tmp_path, "README.md", "cover.jpg")
    data = read_class_folders(tmp_path, FIFTH)
    train, val = data["train"], data["val"]
    assert contents(train) == [("cat", 0), ("cat", 0), ("dog", 1), ("eel", 2)]
    assert contents(val) == [("cat", 0), ("eel", 2), ("eel", 2)]
    assert val.class_names == train.class_names == ("cat", "dog", "eel")
    assert train[1].image[0, 0, 0] == 1
    assert train[1].id == str(tmp_path / "train" / "cat" / "1.png")
    assert data.found == "class folders: 3 classes, train/ and val/"
    assert train.warnings == [
        f"{tmp_path / 'train'}: 2 files passed over: 1 .txt, 1 hidden",
        f"{tmp_path}: 2 files passed over: 1 .jpg, 1 .md",
    ]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "valid", "test"), ("train", "val", "test")),
        (("train", "validation"), ("train", "val")),
        (("training", "validation"), ("train", "val")),
        (("Train", "Val"), ("train", "val")),
        (("TRAIN", "TEST", "Dev"), ("train", "test", "val")),
        (("test",), ("test",)),
    ],
)
def test_usual_names_of_splits_in_any_case(folders: tuple[str, ...], splits: tuple[Split, ...], tmp_path: Path) -> None:
    for number, folder in enumerate(folders, 2):
        make_images(tmp_path / folder, cat=number, dog=number)
    data = read_class_folders(tmp_path, FIFTH)
    assert set(data.names) == set(splits)
    assert [len(data[split]) for split in splits] == [2 * number for number, _ in enumerate(folders, 2)]


def test_val_is_held_out_of_train_and_test_stays_test(tmp_path: Path) -> None:
    make_images(tmp_path / "train", cat=30, dog=30)
    make_images(tmp_path / "test", cat=3, dog=3)
    data = read_class_folders(tmp_path, FIFTH)
    assert data.names == ("train", "val", "test")
    assert len(data["train"]) + len(data["val"]) == 60
    assert names_of(data, "test") == {f"test/{animal}/{index}.png" for animal in ("cat", "dog") for index in range(3)}
    shutil.rmtree(tmp_path / "test")
    shutil.move(tmp_path / "train" / "cat", tmp_path / "cat")
    shutil.move(tmp_path / "train" / "dog", tmp_path / "dog")
    shutil.rmtree(tmp_path / "train")
    flat = read_class_folders(tmp_path, FIFTH)
    assert {f"train/{name}" for name in names_of(flat, "val")} == names_of(
        data, "val"
    )  # the same images without `train`
    without = read_class_folders(tmp_path, None)
    assert len(without["train"]) == 60
    with pytest.raises(MissingSplitError, match="no images for val"):
        without["val"]
    assert read_class_folders(tmp_path, Holdout(0, 1)).names == ("train", "val")
    assert len(read_class_folders(tmp_path, Holdout(0, 1))["val"]) == 60


def test_a_hash_of_class_and_file_decides_in_each_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{animal}/{index}.jpg" for animal in ("cat", "dog") for index in range(200)))
    expected = set()
    for path in tmp_path.rglob("*.jpg"):
        name = str(path.relative_to(tmp_path))
        digest = hashlib.blake2b(name.encode(), digest_size=6).digest()
        if int.from_bytes(digest, "big") < 0.2 * 2**48:
            expected.add(name)
    assert names_of(read_class_folders(tmp_path, FIFTH), "val") == expected
    assert 40 < len(expected) < 120


def test_five_folds_of_train_and_val_have_each_image_once(tmp_path: Path) -> None:
    make_images(tmp_path / "train", cat=20, dog=20)
    make_images(tmp_path / "valid", cat=10, dog=10)
    seen: list[str] = []
    for number in range(5):
        data = read_class_folders(tmp_path, Holdout(number / 5, (number + 1) / 5, is_fold=True))
        train, val = names_of(data, "train"), names_of(data, "val")
        assert not train & val
        assert len(train | val) == 60
        assert {class_id for _, class_id in contents(data["val"])} == {0, 1}
        seen += val
    assert sorted(seen) == sorted(train | val)


def test_adding_images_moves_no_others(tmp_path: Path) -> None:
    make_images(tmp_path, ape=20, cat=20, dog=20)
    before = {split: names_of(read_class_folders(tmp_path, FIFTH), split) for split in ("train", "val")}
    for index in range(20):
        write_image(tmp_path / "cat" / f"{index}-new.png", np.zeros((8, 8, 3), np.uint8))
    make_images(tmp_path, bee=20)
    for split, names in before.items():
        assert names < names_of(read_class_folders(tmp_path, FIFTH), split)


@pytest.mark.parametrize("val_fraction", [1e-9, 1 - 1e-9])
def test_each_class_is_in_both_splits_and_adding_images_affects_only_their_class(
    tmp_path: Path, val_fraction: float
) -> None:
    make_images(tmp_path, cat=9, dog=2)
    smaller: Split = "val" if val_fraction < 0.5 else "train"
    holdout = Holdout(0, val_fraction)
    before = names_of(read_class_folders(tmp_path, holdout), smaller)
    assert sorted(name[:3] for name in before) == ["cat", "dog"]
    for index in range(90):
        write_image(tmp_path / "cat" / f"{index}-new.png", np.zeros((8, 8, 3), np.uint8))
    after = names_of(read_class_folders(tmp_path, holdout), smaller)
    assert sorted(name[:3] for name in after) == ["cat", "dog"]
    assert {name for name in after if name.startswith("dog")} == {name for name in before if name.startswith("dog")}


def test_images_of_any_depth_and_suffix_belong_to_the_class_and_the_rest_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jfif", "one/2024/b.JPG", "one/2024/summer/c.gif", "two/d.jpeg", "two/e.webp", "two/x.txt")
    touch(tmp_path, "__MACOSX/._a.jpg", ".git/a.jpg", "two/.DS_Store", "two/deep/clip.mp4", "beside.jpg", "labels.csv")
    data = read_class_folders(tmp_path, None)
    source = data["train"]
    assert source.class_names == ("one", "two")
    assert names_of(data, "train") == {
        *("one/a.jfif", "one/2024/b.JPG", "one/2024/summer/c.gif", "two/d.jpeg", "two/e.webp")
    }
    assert source.class_ids.tolist() == [0, 0, 0, 1, 1]
    assert source.warnings == [
        f"{tmp_path}: 1 image passed over, in no folder of a class",
        f"{tmp_path}: 6 files passed over: 3 hidden, 1 .csv, 1 .mp4, 1 .txt",
    ]


def test_the_only_image_of_a_class_is_trained_on_and_named(tmp_path: Path) -> None:
    make_images(tmp_path, cat=5, dog=1, eel=0)
    data = read_class_folders(tmp_path, FIFTH)
    assert ("dog", 1) in contents(data["train"])
    assert {class_id for _, class_id in contents(data["val"])} == {0}
    assert data["train"].warnings == [
        f"{tmp_path}: 1 class folder (eel) without images",
        f"{tmp_path}: 1 class (dog) with one image only, which is trained on and not scored",
    ]


def test_val_may_have_a_subset_of_the_classes(tmp_path: Path) -> None:
    make_images(tmp_path / "train", cat=2, dog=2, eel=2)
    make_images(tmp_path / "val", eel=2)
    val = read_class_folders(tmp_path, FIFTH)["val"]
    assert contents(val) == [("eel", 2), ("eel", 2)]
    assert val.class_names == ("cat", "dog", "eel")


def test_folders_of_classes_and_of_splits_side_by_side(tmp_path: Path) -> None:
    make_images(tmp_path / "a" / "train", cat=2, dog=2)
    make_images(tmp_path / "a", cat=2, fox=2)
    train = read_class_folders(tmp_path / "a", None)["train"]
    assert train.class_names == ("cat", "dog")
    assert train.warnings == [f"{tmp_path / 'a'}: 2 folders (cat, fox) beside train/ passed over"]
    make_images(tmp_path / "b", valid=3, invalid=3)  # two classes: no folder of a split has pictures in it alone
    both = read_class_folders(tmp_path / "b", None)["train"]
    assert both.class_names == ("invalid", "valid")
    assert "1 folder (valid) named like a split, taken as a class" in both.warnings[0]
    make_images(tmp_path / "c", cat=2, dog=2)
    make_images(tmp_path / "c" / "val", cat=2, dog=2)
    with pytest.raises(ValueError, match=r"2 folders \(cat, dog\) beside val/: cannot tell which are for training"):
        read_class_folders(tmp_path / "c", None)


def test_names_that_differ_by_case_only_are_two_classes_and_named(tmp_path: Path) -> None:
    make_images(tmp_path, Cat=2, cat=2)
    train = read_class_folders(tmp_path, None)["train"]
    assert train.class_names == ("Cat", "cat")
    assert train.warnings == [f"{tmp_path}: 2 folders (Cat, cat) differ by case only; each is a class of its own"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no subfolders; expected one for each class; found nothing"),
        (("1.jpg", "2.jpg"), "2 images in it, and none in a subfolder for each class"),
        (("train/1.jpg", "valid/2.jpg"), "train: 1 image in it, and none in a subfolder for each class"),
        (
            ("cat/1.jpg", "cat/2.jpg"),
            r"1 subfolder \(cat\), 1 of them with images; expected one for each class, and at",
        ),
        (("cat/1.jpg", "dog/1.txt"), r"2 subfolders \(cat, dog\), 1 of them with images"),
        (
            ("flowers/rose/1.jpg", "flowers/tulip/1.jpg"),
            r"subfolders \(rose, tulip\): if these are the classes, give .*flowers",
        ),
        (
            ("train/cat/1.jpg", "train/dog/1.jpg", "val/fox/1.jpg"),
            r"val.fox: not one of the 2 classes \(cat, dog\)",
        ),
        (("cat/1.jpg", "dog/1.jpg"), "no class has two images, so that none can be held out"),
        (("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.txt"), "there are no images for val"),
    ],
)
def test_invalid_folders_are_named(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    touch(root, *names)

    def read_all() -> None:
        data = read_class_folders(root, FIFTH)
        _ = data["train"], data["val"]

    with pytest.raises(ValueError, match=message) as raised:
        read_all()
    assert str(raised.value).startswith(str(root))
    assert "\n" not in str(raised.value)


def test_a_file_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: is a file; expected a folder with a subfolder for each class"):
        read_class_folders(tmp_path / "file")
    with pytest.raises(ValueError, match="none: no such folder; expected"):
        read_class_folders(tmp_path / "none")


@pytest.mark.parametrize("file", ["classes.txt", "LOC_synset_mapping.txt"])
def test_imagenet_class_ids_follow_the_list(tmp_path: Path, file: str) -> None:
    """Half of the classes have no images: the sorted folders would have ids 0 and 1."""
    make_images(tmp_path / "val", n02=1, n04=1)
    (tmp_path / file).write_text("n01 a fish\nn02 a cat\nn03 a dog\nn04 an eel, a long one\n")
    data, found = open_labelled(tmp_path)
    assert found == "imagenet"
    source = data["val"]
    assert contents(source) == [("n02", 1), ("n04", 3)]
    assert source.class_names == ("a fish", "a cat", "a dog", "an eel, a long one")
    assert source.warnings == []


def test_imagenet_class_ids_without_a_list_follow_the_training_folders(tmp_path: Path) -> None:
    make_images(tmp_path / "train", n01=1, n02=1, n03=1)
    make_images(tmp_path / "val", n01=1, n03=1)
    assert contents(read_imagenet(tmp_path)["val"]) == [("n01", 0), ("n03", 2)]
    assert find_format(tmp_path) == "folder"


@pytest.mark.parametrize("content", ["cat\ndog\n", "0 cat\n1 dog\n", "\x00", ""])
def test_a_list_of_other_classes_leaves_class_folders(tmp_path: Path, content: str) -> None:
    """Such as LabelImg's; the names of the folders are not in it."""
    make_images(tmp_path, cat=1, dog=1)
    (tmp_path / "classes.txt").write_text(content)
    assert find_format(tmp_path) == "folder"


def test_invalid_imagenet_lists_are_named(tmp_path: Path) -> None:
    make_images(tmp_path / "val", n02=1, n04=1)
    for text, message in (
        ("n02\nn04\n", "a line 'wnid name'"),
        ("n02 a\nn02 b\n", "duplicate wnid"),
        ("n01 a\nn02 b\n", "n04"),
    ):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_imagenet(tmp_path)["val"]


@pytest.mark.data
def test_the_sample_of_imagenet(shared: Path) -> None:
    """The counts in ../shared/data/README.md."""
    data, found = open_labelled(shared / "data" / "imagenet_sample")
    sample = data["val"]
    assert found == "imagenet"
    assert (len(sample), len(sample.class_names)) == (500, 1000)
    by_id = {Path(sample.id(i)).name: sample.truth(i).class_id for i in range(len(sample))}
    assert by_id["n02012849_crane.JPEG"] == 134  # the bird; the machine is 517
    assert sorted(by_id.values()) == list(range(0, 1000, 2))
