"""`predict` writes what it reports, for all file names."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch import nn

from datasets.drawing.draw import put_label
from datasets.images import read_image, write_image
from datasets.types import Image
from tasks.common.evaluation import predict
from tasks.common.evaluation.predict import RECORDS, predict_files

LATIN_1 = os.fsdecode(b"caf\xe9")  # a name that is not UTF-8


class Sizes:
    """A task that predicts an image's height."""

    def preprocessing(self) -> Any:
        return lambda image: image

    def describe(self, predicted: int, _image_hw: tuple[int, int]) -> dict[str, Any]:
        return {"height_seen": predicted}

    def draw(self, image: Image, predicted: int) -> Image:
        assert predicted == len(image)
        return image


@pytest.fixture
def heights(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(predict, "predict_pixels", lambda _task, _model, pixels: [len(image) for image in pixels])
    return Sizes()


def picture() -> Image:
    return np.full((24, 32, 3), 90, np.uint8)


def write_video(path: Path) -> None:
    named = path.with_name("video.mp4")
    writer = cv2.VideoWriter(str(named), cv2.VideoWriter.fourcc(*"mp4v"), 5, (32, 24))
    assert writer.isOpened()
    for _ in range(3):
        writer.write(picture())
    writer.release()
    named.rename(path)


def test_a_file_name_need_not_be_utf_8(heights: Any, tmp_path: Path) -> None:
    photo, video = tmp_path / f"{LATIN_1}.png", tmp_path / f"{LATIN_1}.mp4"
    write_image(photo, picture())
    assert b"caf\xe9.png" in os.listdir(os.fsencode(tmp_path))
    write_video(video)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.warns(UserWarning, match="OpenCV cannot open a video whose name is not UTF-8; rename it; skipped"):
        assert predict_files(heights, nn.Identity(), [photo, video], out) == 1
    assert read_image(out / f"{LATIN_1}.jpg").shape == (24, 32, 3)
    text = (out / RECORDS).read_text(encoding="ascii")
    assert Path(json.loads(text)["image"]) == photo


def test_a_label_need_not_be_utf_8() -> None:
    image = picture()
    put_label(image, LATIN_1, 0, 0, (255, 255, 255))
    assert (image != picture()).any()


def test_an_image_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere.a\.png"):
        write_image(tmp_path / "nowhere" / "a.png", picture())


def test_a_video_that_cannot_be_written_is_an_error(
    heights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4")
    out = tmp_path / "out"
    out.mkdir()
    assert predict_files(heights, nn.Identity(), [tmp_path / "a.mp4"], out) == 3
    assert cv2.VideoCapture(str(out / "a.mp4")).read()[0]

    real = cv2.VideoWriter

    class WithoutCodec:
        fourcc = staticmethod(real.fourcc)

        def __init__(self, *_: Any) -> None:
            self.closed = real()

        def isOpened(self) -> bool:  # noqa: N802
            return self.closed.isOpened()

        def write(self, frame: Image) -> None:
            self.closed.write(frame)

        def release(self) -> None:
            self.closed.release()

    monkeypatch.setattr(cv2, "VideoWriter", WithoutCodec)
    (out / RECORDS).unlink()
    with pytest.raises(ValueError, match=r"a\.mp4: OpenCV cannot write MPEG-4 video here.*pip install opencv-python-h"):
        predict_files(heights, nn.Identity(), [tmp_path / "a.mp4"], out)
    assert not (out / RECORDS).exists()
