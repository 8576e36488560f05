"""File names that travelled between machines are found; what cannot be found, or not for certain, is left alone."""

import unicodedata
from pathlib import Path

import pytest

from datasets.locate import locate


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("on_disk", "named"),
    [
        ("sub/a.jpg", "sub\\a.jpg"),
        ("cell no 1.jpg", "cell%20no%201.jpg"),
        (unicodedata.normalize("NFD", "zellé.jpg"), unicodedata.normalize("NFC", "zellé.jpg")),
        (unicodedata.normalize("NFC", "zellé.jpg"), unicodedata.normalize("NFD", "zellé.jpg")),
        ("a.jpg", "/home/someone/project/images/a.jpg"),
        ("a.jpg", "C:\\Users\\someone\\a.jpg"),
        ("a.JPG", "a.jpg"),
        ("a.jpg", "images/a.jpg"),
        ("deep/er/a.jpg", "a.jpg"),
        ("a.jpg", "../other/a.jpg"),
    ],
)
def test_names_of_another_machine_are_found(tmp_path: Path, on_disk: str, named: str) -> None:
    touch(tmp_path, f"images/{on_disk}", "images/other.jpg")
    files, warnings = locate(tmp_path, ["images"], ["other.jpg", named], Path("a.json"))
    assert files == ["images/other.jpg", f"images/{on_disk}"]
    assert "a.json: 1 of 2 file names are others on the disk" in warnings[0]


def test_literal_names_need_no_search(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "y/a.jpg", "y/b%20c.jpg")
    assert locate(tmp_path, ["x", "y"], ["a.jpg", "b%20c.jpg"], Path("a.json")) == (["y/a.jpg", "y/b%20c.jpg"], [])


def test_of_several_files_of_a_name_the_one_in_the_same_folder_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "images/day1/a.jpg", "images/day2/a.jpg")
    files, _ = locate(tmp_path, ["images"], ["data\\day2\\a.jpg", "elsewhere/a.jpg"], Path("a.json"))
    assert files == ["images/day2/a.jpg", "images/elsewhere/a.jpg"]  # the second could be either


def test_of_several_files_of_a_name_the_one_in_the_likeliest_folder_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "train/a b.jpg", "val/a b.jpg", "other/a b.jpg")
    assert locate(tmp_path, ["val", "train"], ["a%20b.jpg"], Path("a.json"))[0] == ["val/a b.jpg"]


def test_a_name_that_is_nowhere_stays_below_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg")
    assert locate(tmp_path, ["images"], ["a.jpg", "gone.jpg"], Path("a.json"))[0] == ["images/a.jpg", "images/gone.jpg"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../secret.jpg", "secret.jpg"),
        ("../../../secret.jpg", "secret.jpg"),
        ("/etc/secret.jpg", "etc/secret.jpg"),
        ("C:\\secret.jpg", "C:/secret.jpg"),
        ("a\0b.jpg", "images/ab.jpg"),
        ("..", "unnamed"),
    ],
)
def test_no_name_leads_out_of_the_root(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / "secret.jpg").touch()
    touch(tmp_path / "data", "images/a.jpg")
    files, _ = locate(tmp_path / "data", ["images"], [name], Path("a.json"))
    assert files == [file]
    assert (tmp_path / "data" / file).resolve().is_relative_to(tmp_path / "data")
