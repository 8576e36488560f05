"""CelebA's lists: any whitespace, any attributes, and one line for each error."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.celeba import ATTRIBUTE_LIST, IMAGES, PARTITION_LIST, read_celeba

ROWS = ("000001.jpg  1 -1", "000002.jpg -1 -1 ", "000003.jpg  1   1")


TRAIN = "000001.jpg 0\n000002.jpg 0"


def write(root: Path, *rows: str, head: str = "3\nSmiling Young ", partitions: str = TRAIN) -> Path:
    (root / IMAGES).mkdir()
    for image_id in range(1, 4):
        cv2.imwrite(str(root / IMAGES / f"{image_id:06d}.jpg"), np.full((8, 6, 3), 40 * image_id, np.uint8))
    (root / ATTRIBUTE_LIST).write_text("\n".join([head, *(rows or ROWS)]) + "\n")
    (root / PARTITION_LIST).write_text(partitions + "\n000003.jpg 2\n")
    return root


def test_reads_values_names_and_partitions(tmp_path: Path) -> None:
    found = read_celeba(write(tmp_path))
    assert list(found) == ["train", "test"]
    assert found["train"].attribute_names == ("Smiling", "Young")
    assert found["train"].values.tolist() == [[True, False], [False, False]]
    example = found["test"][0]
    assert example.id == str(tmp_path / IMAGES / "000003.jpg")
    assert example.truth.values.tolist() == [1, 1]
    assert example.image.mean() == pytest.approx(120, abs=2)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rows": ("000001.jpg 1 -1", "000002.jpg 1", "000003.jpg 1 1")}, f"{ATTRIBUTE_LIST}: line 4: expected a name"),
        ({"rows": ("000001.jpg 1 0", *ROWS[1:])}, f"{ATTRIBUTE_LIST}: line 3: expected -1 or 1 for each .* got '0'"),
        ({"rows": ROWS[:2]}, "line 1 gives 3 images, but there are 2"),
        ({"rows": (ROWS[0], ROWS[0], ROWS[2])}, "duplicate image name"),
        ({"rows": ("4.jpg 1 1", *ROWS[1:]), "partitions": "4.jpg 0\n000002.jpg 0"}, r"1 of 3 images of .* are missing"),
        ({"rows": ("../4.jpg 1 1", *ROWS[1:]), "partitions": "../4.jpg 0\n000002.jpg 0"}, "outside its folder"),
        ({"head": "3\nA A"}, "line 2: duplicate attribute name"),
        ({"head": "A B"}, "line 1: expected the number of images"),
        ({"partitions": "000001.jpg 0"}, "1 of 3 images are not listed; first 000002.jpg"),
        ({"partitions": "000001.jpg 0\n000002.jpg 3"}, f"{PARTITION_LIST}: line 2: expected an image and 0"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, changes: dict[str, str], line: str) -> None:
    rows = changes.pop("rows", ROWS)
    with pytest.raises(ValueError, match=line):
        read_celeba(write(tmp_path, *rows, **changes))


def test_error_of_a_missing_list_states_the_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt: no such file; expected CelebA's"):
        read_celeba(tmp_path)


@pytest.mark.data
def test_fairface_has_the_counts_of_its_readme(shared: Path) -> None:
    found = read_celeba(shared / "data" / "fairface")
    assert list(found) == ["train", "val"]
    assert found["train"].attribute_names == ("Male", "Child", "Teenager", "Young_Adult", "Middle_Aged", "Senior")
    assert found["train"].values.sum(0).tolist() == [1574, 422, 316, 1564, 574, 124]
    assert found["val"].values.sum(0).tolist() == [542, 151, 110, 505, 198, 36]
    assert (found["val"].values[:, 1:].sum(1) == 1).all()  # exactly one age
