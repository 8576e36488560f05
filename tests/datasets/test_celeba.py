"""Lists of attributes: CelebA's in all the forms it comes in, any CSV file, and one line for each error."""

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.celeba import ATTRIBUTE_LIST, IMAGES, PARTITION_LIST, open_attributes
from datasets.images.read import UnreadableImageError
from datasets.splits import Holdout, MissingSplitError

ROWS = ("000001.jpg  1 -1", "000002.jpg -1 -1 ", "000003.jpg  1   1")
TRAIN = "000001.jpg 0\n000002.jpg 0"
VALUES = {"000001": [True, False], "000002": [False, False], "000003": [True, True]}


def write_images(folder: Path, suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    for image_id in range(1, 4):
        cv2.imwrite(str(folder / f"{image_id:06d}{suffix}"), np.full((8, 6, 3), 40 * image_id, np.uint8))


def write(root: Path, *rows: str, head: str = "3\nSmiling Young ", partitions: str = TRAIN) -> Path:
    write_images(root / IMAGES)
    (root / ATTRIBUTE_LIST).write_text("\n".join([head, *(rows or ROWS)]) + "\n")
    (root / PARTITION_LIST).write_text(partitions + "\n000003.jpg 2\n")
    return root


def write_kaggle(root: Path, images: str = "img_align_celeba/img_align_celeba", absent: int = -1) -> Path:
    """As Kaggle has CelebA: CSV files, and a folder in a folder of the same name."""
    write_images(root / images)
    rows = [
        f"{name}.jpg,{','.join('1' if value else str(absent) for value in values)}" for name, values in VALUES.items()
    ]
    (root / "list_attr_celeba.csv").write_text("\n".join(["image_id,Smiling,Young", *rows]) + "\n")
    (root / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,0\n000002.jpg,0\n000003.jpg,2\n")
    return root


def test_reads_values_names_and_partitions(tmp_path: Path) -> None:
    data = open_attributes(write(tmp_path))
    assert data.names == ("train", "test")
    assert data["train"].attribute_names == ("Smiling", "Young")
    assert data["train"].values.tolist() == [[True, False], [False, False]]
    example = data["test"][0]
    assert example.id == str(tmp_path / IMAGES / "000003.jpg")
    assert example.truth.values.tolist() == [1, 1]
    assert example.image.mean() == pytest.approx(120, abs=2)
    assert data.found == f"{ATTRIBUTE_LIST}: 2 attributes of 3 images, divided by {PARTITION_LIST}"


@pytest.mark.parametrize("form", ["kaggle", "0 and 1", "beside the lists", "subfolders", "png", "split column", "tabs"])
def test_the_same_images_from_every_form(form: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if form == "subfolders":
        write(root)
        for folder, name in (("Anno", ATTRIBUTE_LIST), ("Eval", PARTITION_LIST), ("Img", IMAGES)):
            (root / folder).mkdir()
            shutil.move(root / name, root / folder / name)
    elif form == "png":
        write(root)
        shutil.rmtree(root / IMAGES)
        write_images(root / f"{IMAGES}_png", ".png")
    else:
        write_kaggle(root, "" if form == "beside the lists" else IMAGES, 0 if form == "0 and 1" else -1)
    if form == "split column":
        (root / "list_eval_partition.csv").unlink()
        lines = (root / "list_attr_celeba.csv").read_text().splitlines()
        splits = ("split", "Training", "train", "test")
        (root / "list_attr_celeba.csv").write_text("\n".join(f"{a},{b}" for a, b in zip(lines, splits, strict=True)))
    elif form == "tabs":
        path = root / "list_attr_celeba.csv"
        (root / "my_attributes.tsv").write_bytes(path.read_text().replace(",", "\t").encode("utf-16"))
        path.unlink()
    data = open_attributes(root)
    assert data.names == ("train", "test")
    found = {}
    for split in data.names:
        source = data[split]
        assert source.attribute_names == ("Smiling", "Young")
        for row in range(len(source)):
            example = source[row]
            found[Path(example.id).stem] = source.values[row].tolist()
            assert example.image.mean() == pytest.approx(40 * int(Path(example.id).stem), abs=2)
    assert found == VALUES
    assert Path(data["test"].id(0)).stem == "000003"


def test_without_a_list_of_partitions_a_hash_of_the_name_decides(tmp_path: Path) -> None:
    names = [f"{index:06d}.jpg" for index in range(300)]
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / name).touch()
    rows = "".join(f"{name},{index % 2}\n" for index, name in enumerate(names))
    (tmp_path / "attributes.csv").write_text(f"image,glasses\n{rows}")
    data = open_attributes(tmp_path, Holdout(0, 0.2))
    val = [Path(data["val"].id(row)).name for row in range(len(data["val"]))]
    digests = {name: hashlib.blake2b(name.encode(), digest_size=6).digest() for name in names}
    assert val == [name for name in names if int.from_bytes(digests[name], "big") < 0.2 * 2**48]
    assert 30 < len(val) < 90
    assert data["val"].values[:, 0].tolist() == [int(name[:6]) % 2 == 1 for name in val]
    assert len(data["train"]) == 300 - len(val)
    with pytest.raises(MissingSplitError):
        open_attributes(tmp_path)["val"]
    folds = [open_attributes(tmp_path, Holdout(k / 3, (k + 1) / 3, is_fold=True))["val"] for k in range(3)]
    assert sorted(fold.id(row) for fold in folds for row in range(len(fold))) == sorted(
        str(tmp_path / "images" / name) for name in names
    )


def test_a_missing_image_is_kept_and_unreadable(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / IMAGES / "000002.jpg").unlink()
    train = open_attributes(tmp_path)["train"]
    assert len(train) == 2
    with pytest.raises(UnreadableImageError, match=r"000002.jpg: No such file"):
        train[1]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rows": ("000001.jpg 1 -1", "000002.jpg 1", "000003.jpg 1 1")}, f"{ATTRIBUTE_LIST}: line 4: expected a name"),
        ({"rows": ("000001.jpg 1 2", *ROWS[1:])}, f"{ATTRIBUTE_LIST}: line 3: expected -1 or 1 for each .* got '2'"),
        ({"rows": ("000001.jpg 1 0", *ROWS[1:])}, "absent attributes are -1 in some places and 0 in others"),
        ({"rows": ROWS[:2]}, "line 1 gives 3 images, but there are 2"),
        ({"rows": (ROWS[0], ROWS[0], ROWS[2])}, "duplicate image name"),
        (
            {"rows": ("a.jpg 1 1", "b.jpg 1 1"), "head": "2\nA B", "partitions": "a.jpg 0\nb.jpg 1"},
            "none of its 2 images is",
        ),
        ({"head": "3\nA A"}, "line 2: duplicate attribute name"),
        ({"head": "A B"}, "line 1: expected the number of images"),
        ({"partitions": "000001.jpg 0"}, "1 of 3 images not listed; the first is 000002.jpg"),
        ({"partitions": "000001.jpg 0\n000002.jpg 3"}, f"{PARTITION_LIST}: line 2: expected an image and 0"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, changes: dict[str, str], line: str) -> None:
    rows = changes.pop("rows", ROWS)
    with pytest.raises(ValueError, match=line):
        open_attributes(write(tmp_path, *rows, **changes))


def test_errors_in_csv_files_name_file_and_line(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    for content, message in (
        (
            "image_id,Smiling\n000001.jpg,yes\n",
            "attr.csv: line 2: expected -1 or 1 for each attribute, or 0 or 1, got 'yes'",
        ),
        ("image_id,Smiling\n000001.jpg\n", "attr.csv: line 2: expected a name and 1 value, got 1 word"),
        ("image_id\n000001.jpg\n", "attr.csv: expected a column of images and one for each attribute, got 'image_id'"),
        ("image_id,A,A\n000001.jpg,1,1\n", "attr.csv: duplicate column"),
        ("image_id,A\n", "attr.csv: it has no images"),
        ("image_id,A\n000001.jpg,1\n000001.jpg,1\n", "attr.csv: duplicate image name"),
        ("", "attr.csv: expected a column of images and one for each attribute"),
    ):
        (tmp_path / "attr.csv").write_text(content)
        with pytest.raises(ValueError, match=message):
            open_attributes(tmp_path)


def test_a_csv_file_for_each_split(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test")
    (tmp_path / "train.csv").write_text("image_id,Smiling,Young\n000001.jpg,1,0\n000002.jpg,0,0\n")
    (tmp_path / "val.csv").write_text("image_id,Smiling,Young\n000003.jpg,1,1\n")
    (tmp_path / "test.csv").write_text("image_id\n000001.jpg\n")  # without attributes, as Kaggle gives it
    data = open_attributes(tmp_path)
    assert data.names == ("train", "val")
    assert data["train"].values.tolist() == [[True, False], [False, False]]
    assert data["train"].id(0) == str(tmp_path / "train" / "000001.jpg")
    assert data["val"].values.tolist() == [[True, True]]
    assert data["val"].warnings == [f"{tmp_path}: 1 CSV file (test.csv) passed over"]
    assert data["val"].id(0) == str(tmp_path / "train" / "000003.jpg")
    assert data.found == "train.csv and val.csv: 2 attributes of 3 images"
    (tmp_path / "test.csv").write_text("image_id,Smiling,Young\n000001.jpg,1,0\n")
    assert open_attributes(tmp_path)["test"].id(0) == str(tmp_path / "test" / "000001.jpg")
    (tmp_path / "val.csv").write_text("image_id,Young,Smiling\n000003.jpg,1,1\n")
    with pytest.raises(ValueError, match=r"val.csv: its attributes are others than in .*train.csv"):
        open_attributes(tmp_path)


def test_what_no_list_names_is_counted(tmp_path: Path) -> None:
    rows = [f"{name}.jpg,1" for name in ("000001", "000002")]
    write_images(tmp_path / "images")
    (tmp_path / "attr.csv").write_text("\n".join(["image_id,Smiling", *rows]) + "\n")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000009.jpg 0\n")
    assert open_attributes(tmp_path)["val"].warnings == [
        f"{tmp_path / 'list_eval_partition.txt'}: 1 line passed over, of images without attributes",
        f"{tmp_path / 'images'}: 1 image passed over, which no list names (the first is images/000003.jpg)",
    ]


def test_error_of_a_missing_list_states_the_layout(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no list of attributes; expected CelebA's list_attr_celeba.txt.*found nothing"
    ):
        open_attributes(tmp_path)
    for name in ("my_attributes.csv", "attr.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"2 lists of attributes \(attr.csv, my_attributes.csv\); expected one"):
        open_attributes(tmp_path)


@pytest.mark.data
def test_fairface_has_the_counts_of_its_readme(shared: Path) -> None:
    found = open_attributes(shared / "data" / "fairface")
    assert found.names == ("train", "val")
    assert found["train"].attribute_names == ("Male", "Child", "Teenager", "Young_Adult", "Middle_Aged", "Senior")
    assert found["train"].values.sum(0).tolist() == [1574, 422, 316, 1564, 574, 124]
    assert found["val"].values.sum(0).tolist() == [542, 151, 110, 505, 198, 36]
    assert (found["val"].values[:, 1:].sum(1) == 1).all()  # exactly one age
