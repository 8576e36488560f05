"""Files of paths, folders and globs."""

from pathlib import Path

import pytest

from tasks.common.evaluation.predict import find_files


def test_folders_are_searched_recursively_and_through_links(tmp_path: Path) -> None:
    real, folder = tmp_path / "elsewhere", tmp_path / "photos [1]"
    for path in (real / "b.JPG", folder / "inner" / "a.png", folder / "clip.mp4", folder / "notes.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "linked").symlink_to(real)
    found = find_files([str(folder), str(folder / "clip.mp4")])
    assert found == [folder / "clip.mp4", folder / "inner" / "a.png", folder / "linked" / "b.JPG"]
    assert find_files([str(tmp_path / "else*" / "*")]) == [real / "b.JPG"]
    with pytest.raises(ValueError, match=r"no image or video there; expected an image, a folder, a glob or a video"):
        find_files([str(tmp_path / "nothing")])
