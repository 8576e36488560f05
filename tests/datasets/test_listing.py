"""Images below a folder, and the count of everything else there."""

import os
from collections import Counter
from pathlib import Path

import pytest

from datasets.images.read import IMAGE_SUFFIXES
from datasets.listing import ImageListing, is_hidden, list_images


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_every_file_is_listed_or_counted(tmp_path: Path) -> None:
    make(tmp_path, "b/2.JPG", "b/10.jfif", "b/deep/er/1.heic", "b/notes.txt", "b/a.TXT", "b/raw.psd", "b/README")
    make(
        tmp_path, "b/.DS_Store", "b/._2.jpg", "b/Thumbs.db", "b/desktop.ini", "b/deep/@eaDir/1.jpg", "b/__MACOSX/1.jpg"
    )
    make(tmp_path, "b/.git/1.jpg", "elsewhere.jpg")
    listing = list_images(tmp_path, "b")
    assert listing.names == ["b/10.jfif", "b/2.JPG", "b/deep/er/1.heic"]
    assert listing.passed_over == Counter({"hidden": 7, ".txt": 2, ".psd": 1, "without a suffix": 1})
    assert listing.line() == "11 files passed over: 7 hidden, 2 .txt, 1 .psd, 1 without a suffix"
    flat = list_images(tmp_path, "b", recursive=False)
    assert flat.names == ["b/10.jfif", "b/2.JPG"]
    assert flat.passed_over == listing.passed_over + Counter({"in deeper folders": 1})
    below = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    in_hidden_folders = 3  # which count as one each, here with one file each
    assert len(listing.names) + listing.passed_over.total() == len(below)
    assert sum(any(is_hidden(part) for part in path.parts[-3:-1]) for path in below) == in_hidden_folders


def test_the_folder_may_be_the_root_itself(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b/c.png")
    assert list_images(tmp_path).names == list_images(tmp_path, ".").names == ["a.png", "b/c.png"]
    assert list_images(tmp_path, "").line() == ""


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_the_suffixes_of_images_are_listed_in_any_case(suffix: str, tmp_path: Path) -> None:
    make(tmp_path, f"1{suffix}", f"2{suffix.upper()}")
    assert list_images(tmp_path).names == [f"1{suffix}", f"2{suffix.upper()}"]


def test_listings_add_up() -> None:
    total = ImageListing(["a"], Counter({".txt": 1})) + ImageListing(["b"], Counter({".txt": 1, ".csv": 3}))
    assert total == ImageListing(["a", "b"], Counter({".txt": 2, ".csv": 3}))
    assert ImageListing([], Counter({".txt": 1})).line() == "1 file passed over: 1 .txt"
    many = ImageListing([], Counter({f".{number:03}": 1 for number in range(1000)}))
    assert many.line().endswith("1 .006, 1 .007, 992 of other kinds")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "data/a/1.jpg", "data/b/2.jpg", "outside/3.jpg")
    (tmp_path / "data/a/itself").symlink_to(tmp_path / "data/a")
    (tmp_path / "data/a/all").symlink_to(tmp_path)
    (tmp_path / "data/b/a").symlink_to("../a")
    (tmp_path / "data/outside").symlink_to("../outside")
    (tmp_path / "data/link.jpg").symlink_to("a/1.jpg")
    (tmp_path / "data/gone.jpg").symlink_to("nothing.jpg")
    listing = list_images(tmp_path, "data")
    names = ["a/1.jpg", "b/2.jpg", "b/a/1.jpg", "gone.jpg", "link.jpg", "outside/3.jpg"]
    assert listing.names == [f"data/{name}" for name in names]
    assert listing.passed_over == Counter({"linked to a folder that it is in": 4})


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert list_images(tmp_path).line() == "1 file passed over: 1 not regular"


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    make(tmp_path, name)
    assert list_images(tmp_path).names == [name]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    make(tmp_path, "file")
    for name, reason in (("none", "No such file or directory"), ("file", "Not a directory")):
        with pytest.raises(ValueError, match=f"{name}: {reason}; expected a folder of images"):
            list_images(tmp_path, name)
