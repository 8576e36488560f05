"""Files of paths, folders and globs."""

from pathlib import Path

import numpy as np
import pytest

from datasets.images.read import write_image
from tasks.common.prediction.find import find_files


def test_folders_are_searched_recursively_and_through_links(tmp_path: Path) -> None:
    real, folder = tmp_path / "elsewhere", tmp_path / "photos [1]"
    for path in (real / "b.JPG", folder / "inner" / "a.png", folder / "clip.mp4", folder / "notes.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "linked").symlink_to(real)
    with pytest.warns(UserWarning, match=r"^1 file passed over: 1 \.txt$"):
        found = find_files([str(folder), str(folder / "clip.mp4")])
    assert found == [folder / "clip.mp4", folder / "inner" / "a.png", folder / "linked" / "b.JPG"]
    assert find_files([str(tmp_path / "else*" / "*")]) == [real / "b.JPG"]
    with pytest.raises(ValueError, match=r"no image or video there; expected an image, a folder, a glob or a video"):
        find_files([str(tmp_path / "nothing")])


def test_a_folder_of_all_sorts_is_predicted_and_the_rest_counted(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.JFIF", "3.gif", "4.heic", "5.mp4", "deep/6.avif", "notes.txt", "a.TXT", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"^3 files passed over: 2 \.txt, 1 hidden$"):
        found = find_files([str(tmp_path)])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *("1.jpg", "2.JFIF", "3.gif", "4.heic", "5.mp4", "deep/6.avif")
    ]
    with pytest.warns(UserWarning, match=r"^4 files passed over: 2 \.txt, 1 \.mp4, 1 hidden$"):
        assert len(find_files([str(tmp_path)], frozenset({".jpg", ".jfif", ".gif", ".heic", ".avif"}))) == 5


def test_a_file_is_wanted_by_its_content_too(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "download")
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    assert find_files([str(tmp_path / "download")]) == [tmp_path / "download"]
    with pytest.warns(UserWarning, match=r"^1 file passed over: 1 \.txt$"):
        assert find_files([str(tmp_path / "*")]) == [tmp_path / "download"]


@pytest.mark.parametrize("name", ["list.txt", "nothing", "empty", "*.jpg", "0", "-"])
def test_what_is_no_input_is_one_clear_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a.jpg\nb.jpg\n")
    Path("empty").mkdir()
    with pytest.raises(
        ValueError, match=r"no image or video there.*expected an image, a folder, a glob or a video"
    ) as e:
        find_files([name])
    assert str(e.value).startswith(f"{name}: ")
    assert "\n" not in str(e.value)
    assert ("1 file passed over: 1 .txt" in str(e.value)) == (name == "list.txt")


def test_inputs_are_taken_once_and_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / "in" / f"{number}.png" for number in range(3)]
    paths[0].parent.mkdir()
    for path in paths:
        path.touch()
    inputs = [str(paths[2]), str(tmp_path / "in"), str(tmp_path / "in" / "*.png")]
    assert find_files(inputs) == [paths[2], paths[0], paths[1]]
