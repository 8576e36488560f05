"""predictor.py alone: photos of any kind, as the suite reads them, without torch and without the suite."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import PIL.Image
import pytest

from datasets.images.read import Decoding, read_image
from tasks.common.cli.main import main
from tasks.common.deploy import predictor
from tasks.common.runtime.repository import child_environment


@pytest.fixture(scope="module")
def exported(unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "floats"
    words = ["export", "--run", str(unbroken), "--threshold", "0.02", "--out", str(folder)]
    assert main("detection", words) == 0
    return folder


def photo() -> PIL.Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    return PIL.Image.fromarray(noise).resize((120, 90), PIL.Image.Resampling.BICUBIC)


def save_rotated(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6  # turned by a quarter
    photo().save(path, exif=exif)


def save_deep(path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (90, 120, 3), np.uint16)
    assert cv2.imwrite(str(path), values)


PHOTOS: dict[str, Callable[[Path], Any]] = {
    "plain.png": lambda path: photo().save(path),
    "plain.jpg": lambda path: photo().save(path),
    "rotated.jpg": save_rotated,
    "grey.png": lambda path: photo().convert("L").save(path),
    "palette.png": lambda path: photo().quantize(16).save(path),
    "transparent.png": lambda path: photo().convert("RGBA").save(path),
    "cmyk.jpg": lambda path: photo().convert("CMYK").save(path),
    "deep.png": save_deep,
    "pixel.png": lambda path: photo().resize((1, 1)).save(path),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_read_as_the_suite_reads_them(name: str, tmp_path: Path) -> None:
    PHOTOS[name](tmp_path / name)
    np.testing.assert_array_equal(predictor.read_image(tmp_path / name), read_image(tmp_path / name))


def test_black_and_white_of_16_bits_are_the_models(tmp_path: Path) -> None:
    save_deep(tmp_path / "deep.png")
    expected = read_image(tmp_path / "deep.png", Decoding(pixel_range=(100.0, 4095.0)))
    np.testing.assert_array_equal(predictor.read_image(tmp_path / "deep.png", [100.0, 4095.0]), expected)


def test_pil_image_of_16_bits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mode I;16; expected 8 bits"):
        predictor.read_image(PIL.Image.fromarray(np.zeros((4, 4), np.uint16)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.jpg", None, "no such file"),
        ("empty.jpg", b"", "not an image that OpenCV can read"),
        ("text.jpg", b"some text", "not an image that OpenCV can read"),
    ],
)
def test_files_that_are_no_photos_are_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        predictor.read_image(tmp_path / name)


def test_truncated_photo_is_refused(tmp_path: Path) -> None:
    photo().save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"half\.jpg: truncated image"):
        predictor.read_image(tmp_path / "half.jpg")


def test_truncated_photo_with_a_whole_thumbnail_is_refused(tmp_path: Path) -> None:
    photo().save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    segment = b"Exif\x00\x00" + whole
    data = whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]
    (tmp_path / "half.jpg").write_bytes(data[:-800])
    (tmp_path / "all.jpg").write_bytes(data)
    np.testing.assert_array_equal(
        predictor.read_image(tmp_path / "all.jpg"), predictor.read_image(tmp_path / "whole.jpg")
    )
    for read in (predictor.read_image, read_image):
        with pytest.raises(ValueError, match=r"half\.jpg: truncated image"):
            read(tmp_path / "half.jpg")


@pytest.mark.parametrize(
    "array", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 5, 3), np.uint8)]
)
def test_arrays_of_another_kind_are_refused(array: Any) -> None:
    with pytest.raises(ValueError, match="expected an RGB array of uint8"):
        predictor.read_image(array)


def test_it_needs_nothing_of_the_suite(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(exported, folder)
    photo().save(folder / "photo.jpg")
    # -I ignores the working folder and PYTHONPATH, and -c stands for the user's own program.
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import json, predictor\n"
        f"print(json.dumps(predictor.load({str(folder)!r})({str(folder / 'photo.jpg')!r})))\n"
        "print(*({'torch', 'tasks', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    record, imported = done.stdout.splitlines()
    assert imported == ""
    assert json.loads(record)["detections"]
    as_script = subprocess.run(
        [sys.executable, "-I", str(folder / "predictor.py"), str(folder / "photo.jpg")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert json.loads(as_script.stdout)["detections"] == json.loads(record)["detections"]


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_commands_on_an_export_import_no_torch(verb: str, exported: Path, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    words = [verb, "--run", str(exported), "--out", str(tmp_path / "out")]
    words += [str(tmp_path / "photo.jpg")] if verb == "predict" else []
    code = (
        "import sys; from tasks.common.cli.main import main\n"
        f"status = main('detection', {words!r})\n"
        "assert 'torch' not in sys.modules\nsys.exit(status)"
    )
    subprocess.run([sys.executable, "-c", code], env=child_environment(), check=True)


def test_a_file_without_its_properties_is_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="property 'predictor' is missing"):
        predictor.load(tmp_path)
    with pytest.raises(ValueError, match="no such file; expected the folder that `export` wrote"):
        predictor.load(tmp_path / "elsewhere")
