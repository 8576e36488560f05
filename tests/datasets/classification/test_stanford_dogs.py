"""Stanford Dogs' lists: correct classes, test for val and test, folds, and specific errors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datasets.classification.class_folders import open_labelled
from datasets.classification.stanford_dogs import read_stanford_dogs
from datasets.images.read import UnreadableImageError
from datasets.sample.classification import SPECIES, write_sample
from datasets.splits import Holdout


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    write_sample(tmp_path, {"train": 2, "test": 1})
    return tmp_path


def test_stanford_dogs_layout(dogs: Path) -> None:
    data, found = open_labelled(dogs, holdout=Holdout(0, 0.2))
    assert found == "stanford_dogs"
    train, val, test = data["train"], data["val"], data["test"]
    assert (len(train), len(val)) == (2 * len(SPECIES), len(SPECIES))
    assert train.class_names == val.class_names == tuple(species.name.replace("_", " ") for species in SPECIES)
    assert [val.truth(i).class_id for i in range(len(val))] == list(range(len(SPECIES)))
    assert [test.id(i) for i in range(len(test))] == [val.id(i) for i in range(len(val))]
    assert val[3].image.shape == (160, 160, 3)


def test_folds_join_the_two_lists(dogs: Path) -> None:
    seen = []
    for number in range(3):
        data = read_stanford_dogs(dogs, Holdout(number / 3, (number + 1) / 3, is_fold=True))
        assert data.names == ("train", "val")
        assert len(data["train"]) + len(data["val"]) == 3 * len(SPECIES)
        assert set(data["val"].class_ids) == set(range(len(SPECIES)))
        seen += [data["val"].id(row) for row in range(len(data["val"]))]
    assert len(set(seen)) == 3 * len(SPECIES)


def test_stanford_dogs_errors_are_named(dogs: Path) -> None:
    valid = scipy.io.loadmat(dogs / "test_list.mat")

    def write(**changes: object) -> None:
        content = {k: v for k, v in (valid | changes).items() if v is not None and not k.startswith("_")}
        scipy.io.savemat(dogs / "test_list.mat", content)

    def fails(match: str) -> None:
        with pytest.raises(ValueError, match=match) as raised:
            read_stanford_dogs(dogs)["val"]
        assert "\n" not in str(raised.value)

    write(labels=np.roll(valid["labels"], 1))
    fails(r"test_list\.mat: 'n00000000-Round_plain/.*' has label 16, which is 'n00000015-")
    write(labels=None)
    fails(r"test_list\.mat: expected a list of Stanford Dogs.*it has no 'labels'")
    write(labels=valid["labels"][:3])
    fails("of equal length, got 16 and 3")
    write()
    (dogs / "test_list.mat").write_bytes((dogs / "test_list.mat").read_bytes()[:300])
    fails(r"test_list\.mat: expected a list of Stanford Dogs")
    (dogs / "test_list.mat").unlink()
    fails("no such file")
    write()
    shutil.rmtree(next((dogs / "Images").iterdir()))
    val = read_stanford_dogs(dogs)["val"]  # a missing image is kept, and unreadable
    assert len(val) == len(SPECIES)
    with pytest.raises(UnreadableImageError, match="No such file"):
        val[next(row for row in range(len(val)) if not Path(val.id(row)).exists())]
    shutil.rmtree(dogs / "Images")
    fails(r"test_list\.mat: none of its 16 images is there.*looked in .*Images")


@pytest.mark.data
def test_real_stanford_dogs(shared: Path) -> None:
    """The counts in ../shared/data/README.md."""
    data, found = open_labelled(shared / "data" / "stanford_dogs")
    assert found == "stanford_dogs"
    assert (len(data["train"]), len(data["val"]), len(data["train"].class_names)) == (1440, 720, 120)
    assert data["train"].class_names[:2] == ("Chihuahua", "Japanese spaniel")
