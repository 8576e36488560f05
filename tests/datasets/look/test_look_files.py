"""Image files: unreadable ones, unusual ones, and copies."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from datasets.classification.labelled import LabelledImages
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.images.read import Decoding
from datasets.look import copies, files
from datasets.look.copies import file_statuses, find_copies
from datasets.look.files import look_at_files
from datasets.look.finding import Finding
from datasets.look.look import look, look_before_training
from datasets.types import Split
from tests.datasets.look import builders
from tests.datasets.look.builders import HEIGHT, WIDTH, annotated, random_boxes, texts, write_images


def labelled(root: Path, names: list[str], class_ids: list[int] | None = None) -> LabelledImages:
    ids = [index % 2 for index in range(len(names))] if class_ids is None else class_ids
    return LabelledImages(builders.files(root, names), ids, ["a", "b"])


def looked(sources: dict[Split, LabelledImages], max_unreadable_fraction: float = 0.01) -> list[Finding]:
    return list(look_at_files(sources, max_unreadable_fraction=max_unreadable_fraction))


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Ten good images."""
    names = [f"{number}.png" for number in range(10)]
    write_images(tmp_path, names)
    return names


def test_good_files_pass(tmp_path: Path, names: list[str]) -> None:
    assert looked({"train": labelled(tmp_path, names[:6]), "val": labelled(tmp_path, names[6:])}) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut"])
def test_unreadable_images_are_counted_up_to_the_limit(tmp_path: Path, names: list[str], damage: str) -> None:
    path = tmp_path / "3.jpg"
    if damage == "cut":
        Pillow.effect_noise((64, 64), 90).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"<html>not found</html>")
    source = labelled(tmp_path, [*names[:3], "3.jpg", *names[4:]])
    (warning,) = looked({"train": source}, 0.1)
    assert warning.severity == "warning"
    assert warning.text.startswith(f"1 of 10 images of train cannot be read; the first: {path}: ")
    (error,) = looked({"train": source}, 0.05)
    assert error.severity == "error"
    assert error.text.endswith("--loop.max_unreadable_fraction 0.1")
    (error,) = looked({"train": labelled(tmp_path, ["3.jpg"])}, 1.0)
    assert error.severity == "error", "nothing is left"


def test_images_of_another_size_than_annotated_are_unreadable(tmp_path: Path, rng: np.random.Generator) -> None:
    """As they are when they are read: except those turned by EXIF, whose stored size may be the annotated one."""
    write_images(tmp_path, ["0.png", "1.png", "2.png"])
    Pillow.new("RGB", (WIDTH, HEIGHT + 1)).save(tmp_path / "1.png")
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "2.png", exif=exif)
    source = annotated(random_boxes(3, rng), root=tmp_path)
    (error,) = looked({"train": source})  # type: ignore[dict-item]
    assert error.text.startswith("1 of 3 images of train cannot be read")
    assert f"{WIDTH} x {HEIGHT + 1} pixels, but its annotations are for {WIDTH} x {HEIGHT}" in error.text
    assert source[2].image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("mode", "what"), [("L", "greyscale"), ("RGBA", "transparency"), ("CMYK", "CMYK"), ("I;16", "more than 8 bits")]
)
def test_unusual_modes_are_counted(tmp_path: Path, names: list[str], mode: str, what: str) -> None:
    name = "unusual.tif" if mode == "CMYK" else "unusual.png"
    pixels = np.random.default_rng(9).integers(0, 60000, (40, 50), np.uint16)
    image = Pillow.fromarray(pixels) if mode == "I;16" else Pillow.fromarray((pixels >> 8).astype(np.uint8))
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / name)
    notes = texts(looked({"train": labelled(tmp_path, [*names, name])}), "note")
    assert any(line.startswith("1 of 11 images") and what in line and name in line for line in notes)


DEPTHS = [
    (np.uint16, 0, 4000, "warning", "nearly black.*largest value is 4000 of 65535; --data.pixel_range \\[0,4095\\]"),
    (np.int16, -1024, 3000, "warning", "largest value is 3000 of 32767; --data.pixel_range \\[-1024,4095\\]"),
    (np.uint16, 0, 40000, None, ""),
    (np.float32, 0, 1, None, ""),
    (
        np.float32,
        -12,
        2400,
        "error",
        "3 of 3 .*0.tif: its values are from -12 to 2400.*--data.pixel_range \\[-12,2400\\]",
    ),
]


@pytest.mark.parametrize(("dtype", "low", "high", "severity", "line"), DEPTHS)
def test_deep_images_that_use_a_part_of_their_range_or_more(
    tmp_path: Path, dtype: Any, low: int, high: int, severity: str | None, line: str
) -> None:
    values = np.linspace(low, high, 20 * 30).reshape(20, 30).astype(dtype)
    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", np.roll(values, number, 0))
    source = labelled(tmp_path, ["0.tif", "1.tif", "2.tif"])
    findings = [finding for finding in looked({"train": source}) if finding.severity != "note"]
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert all(re.search(line, finding.text) for finding in findings)
    source.decoding = Decoding(pixel_range=(low, high))
    assert [finding for finding in looked({"train": source}) if finding.severity != "note"] == []
    assert source[0].image.max() == 255, "as the setting says"


def test_copies_in_val_are_warned_about(tmp_path: Path, names: list[str]) -> None:
    shutil.copy(tmp_path / "2.png", tmp_path / "v.png")  # the same bytes, the same class
    val = labelled(tmp_path, [*names[6:], "v.png"])
    (warning,) = looked({"train": labelled(tmp_path, names[:6]), "val": val})
    assert warning.text.startswith("1 of 5 images of val are also in train, byte for byte")
    assert warning.text.endswith(f"(the first: {tmp_path / 'v.png'} is {tmp_path / '2.png'})")


def test_copies_with_another_truth_are_warned_about_and_others_noted(tmp_path: Path, names: list[str]) -> None:
    for name in ("c.png", "d.png"):
        shutil.copy(tmp_path / "0.png", tmp_path / name)
    (warning,) = looked({"train": labelled(tmp_path, [*names, "c.png", "d.png"], [*[0] * 11, 1])})
    assert warning.severity == "warning"
    assert warning.text.startswith("3 of 12 images are copies of others, byte for byte, with other classes: such as")
    (note,) = looked({"train": labelled(tmp_path, [*names, "c.png", "d.png"], [0] * 12)})
    assert note.severity == "note"
    assert note.text.startswith("2 of 12 images are copies of others in their split")


def test_copies_within_val_of_an_image_of_train(tmp_path: Path, names: list[str]) -> None:
    for name in ("c.png", "d.png"):
        shutil.copy(tmp_path / "0.png", tmp_path / name)
    sources: dict[Split, LabelledImages] = {
        "train": labelled(tmp_path, names[:2]),
        "val": labelled(tmp_path, ["c.png", "d.png", "3.png"], [0, 0, 1]),
    }
    warning, note = looked(sources)
    assert warning.text.startswith("2 of 3 images of val are also in train")
    assert note.text.startswith("1 of 5 images are copies of others in their split")
    assert note.text.endswith(f"(the first: {tmp_path / 'd.png'} is {tmp_path / 'c.png'})")


def test_one_picture_at_several_places_is_found(tmp_path: Path, names: list[str]) -> None:
    shutil.copy(tmp_path / "0.png", tmp_path / "c.png")
    store = builders.files(tmp_path, ["0.png", "c.png"])
    (warning,) = looked({"train": GeotaggedPhotos(store, np.array([40.0, 41]), np.array([2.0, 3]))})  # type: ignore[dict-item]
    assert "with other places" in warning.text


def test_find_copies_agrees_with_comparing_all_pairs(tmp_path: Path) -> None:
    """Of files of few sizes and contents, also of equal size that differ in one byte anywhere, and links."""
    rng = np.random.default_rng(1)
    contents = [rng.integers(0, 256, 10000, np.uint8).tobytes() for _ in range(4)]
    paths = []
    for number in range(60):
        data = bytearray(contents[number % 4])
        if number % 3 == 0:
            data[int(rng.integers(0, len(data)))] ^= 1
        if number % 5 == 0:
            del data[-1]
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        paths.append(str(path))
    os.link(paths[0], tmp_path / "hard")
    (tmp_path / "soft").symlink_to(paths[1])
    paths += [str(tmp_path / "hard"), str(tmp_path / "soft"), str(tmp_path / "missing")]
    found = find_copies(paths, file_statuses(paths))
    by_content: dict[bytes, list[int]] = {}
    for index, path in enumerate(paths[:-1]):
        by_content.setdefault(Path(path).read_bytes(), []).append(index)
    expected = sorted(group for group in by_content.values() if len(group) > 1)
    assert sorted(found.groups) == expected
    assert len(expected) > 2
    assert found.num_unchecked == 0


def test_limits_are_said(tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names:
        shutil.copy(tmp_path / "0.png", tmp_path / f"c{name}")
    monkeypatch.setattr(files, "MAX_HEADERS", 5)
    monkeypatch.setattr(copies, "MAX_PROBED", 5)
    notes = texts(looked({"train": labelled(tmp_path, [f"c{name}" for name in names])}), "note")
    assert notes == [
        "10 files have the size of another but were not compared: they are too many",
        "5 of 10 images were opened, evenly spread",
    ]


def test_training_stops_at_errors_and_says_the_rest(
    tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sources: dict[Split, LabelledImages] = {
        "train": labelled(tmp_path, ["missing.png", *names], [0] * 11),
        "val": labelled(tmp_path, names, [1] * 10),
    }
    assert [finding.severity for finding in look(sources)][:2] == ["error", "error"]
    with (
        pytest.raises(ValueError, match=r"^train: images of 1 class.*\(and 1 more: `python -m datasets check`"),
        pytest.warns(UserWarning, match="also in train|other classes"),
    ):
        look_before_training(sources, input_size=64, max_unreadable_fraction=0.01)
    capsys.readouterr()
    good: dict[Split, LabelledImages] = {"train": labelled(tmp_path, names[:8]), "val": labelled(tmp_path, names[8:])}
    look_before_training(good, input_size=64, max_unreadable_fraction=0.01)
    assert capsys.readouterr().err == ""
