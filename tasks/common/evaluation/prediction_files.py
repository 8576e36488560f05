"""The files that `predict` writes: a record for each image and frame, drawn images and videos.

A picture is drawn before its record is written, and a record is there in full or not at all. So whatever interrupts a
prediction, the records tell where to go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import cv2

from datasets.files import write_json
from datasets.images.read import write_image
from datasets.types import Image

RECORDS, UNFINISHED = "predictions.jsonl", "unfinished.json"


class InputImage(NamedTuple):
    """An image file or a video frame.

    Attributes:
        path: of the image or the video.
        frame: index of a video's frame, None for an image.
        image: RGB (H, W, 3).
    """

    path: Path
    frame: int | None
    image: Image


class PredictionFiles:
    """A folder of predictions, new or interrupted; a context manager that closes its files.

    Attributes:
        num_images: the number of images and frames in it.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        """Open the folder.

        Args:
            folder: an empty one, or one of interrupted predictions.
            digest: of the network and the settings.

        Raises:
            ValueError: if the predictions in the folder are of another network or other settings.
        """
        self._unfinished = folder / UNFINISHED
        if not is_unfinished(folder):
            write_json(self._unfinished, {"digest": digest})
        elif json.loads(self._unfinished.read_text(encoding="utf-8")) != {"digest": digest}:
            raise ValueError(
                f"--out: the interrupted predictions in {folder} are of another network or other settings; choose "
                "another folder"
            )
        path = folder / RECORDS
        done, size_bytes, self.num_images = _read_records(path)
        self._records = path.open("ab", buffering=0)
        self._records.truncate(size_bytes)
        self._drawings = _Drawings(folder)
        for image, is_video in done.items():
            self._drawings.name_of(Path(image), is_video=is_video)  # as it was given before
        self._done = done.keys()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._drawings.close_video()
        self._records.close()

    def has(self, path: Path) -> bool:
        """Whether an image, or a whole video, was there when the folder was opened."""
        return str(path) in self._done

    def write(self, source: InputImage, drawn: Image, description: Mapping[str, Any]) -> None:
        """Write a drawn image or frame, then its record."""
        self._drawings.write(source, drawn)
        height, width = source.image.shape[:2]
        header = {"image": str(source.path), "frame": source.frame, "width": width, "height": height}
        self._append(json.dumps(header | dict(description)).encode() + b"\n")
        self.num_images += 1

    def finish(self) -> None:
        """Mark the predictions as complete.

        Raises:
            OSError: if the last video could not be written in full.
        """
        self._drawings.close_video(must_be_readable=True)
        self._unfinished.unlink()

    def _append(self, line: bytes) -> None:
        """Write a line in full, or leave the file as it was if that fails, as on a full disk."""
        end, rest = self._records.seek(0, 2), memoryview(line)
        try:
            while rest:
                rest = rest[self._records.write(rest) :]
        except BaseException:
            self._records.truncate(end)
            raise


def is_unfinished(folder: Path) -> bool:
    """Whether a folder has interrupted predictions, which can be continued."""
    return (folder / UNFINISHED).is_file()


def _read_records(path: Path) -> tuple[dict[str, bool], int, int]:
    """The images, each with whether it is a video, in order; length in bytes and number of their records.

    Without the beginning of a record at the end, and without the records of a video at the end, which may be incomplete
    and is predicted again from its start.
    """
    images: dict[str, bool] = {}
    size_bytes = num_records = 0
    before_last = (0, 0)  # the records before those of the last image
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    image, is_video = record["image"], record["frame"] is not None
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{path}: line {num_records + 1} is not a record of predict; choose another folder with --out"
                    ) from error
                if image not in images:
                    images[image], before_last = is_video, (size_bytes, num_records)
                size_bytes, num_records = size_bytes + len(line), num_records + 1
    last = next(reversed(images), "")
    if images.get(last, False):
        del images[last]
        size_bytes, num_records = before_last
    return images, size_bytes, num_records


class _Drawings:
    """Writes drawn images to a folder: an image to its own file, a frame to its video."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used_names: set[str] = set()
        self._video: cv2.VideoWriter | None = None
        self._video_path = self._video_source = Path()

    def write(self, source: InputImage, drawn: Image) -> None:
        if source.frame is None:
            path = self.name_of(source.path, is_video=False)
            try:
                write_image(path, drawn)
            except BaseException:
                with suppress(OSError):
                    path.unlink()  # the beginning of a file
                raise
            return
        if self._video is None or self._video_source != source.path:
            self.close_video(must_be_readable=True)
            self._open_video(source.path, drawn)
        assert self._video is not None
        self._video.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def close_video(self, *, must_be_readable: bool = False) -> None:
        """Finish the video that is being written, if any.

        Raises:
            OSError: if it must be readable and is not.
        """
        video, self._video = self._video, None
        if video is not None:
            video.release()
            if must_be_readable and not cv2.VideoCapture(opencv_name(self._video_path)).isOpened():
                raise OSError(f"{self._video_path}: the video could not be written in full; is the disk full?")

    def name_of(self, path: Path, *, is_video: bool) -> Path:
        """A new path in the folder; files of the same name from several folders are numbered."""
        suffix = ".mp4" if is_video else ".jpg"
        name, count = f"{path.stem}{suffix}", 1
        while name in self._used_names:
            count += 1
            name = f"{path.stem}-{count}{suffix}"
        self._used_names.add(name)
        return self._folder / name

    def _open_video(self, source: Path, drawn: Image) -> None:
        rate = cv2.VideoCapture(opencv_name(source)).get(cv2.CAP_PROP_FPS) or 25.0
        path, size = self.name_of(source, is_video=True), (drawn.shape[1], drawn.shape[0])
        video = cv2.VideoWriter(opencv_name(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not video.isOpened():
            raise ValueError(
                f"{path}: OpenCV cannot write MPEG-4 video here: the codec is missing, or the file cannot be "
                "created; `pip install opencv-python-headless` has the codec; or predict on frames as images"
            )
        self._video, self._video_path, self._video_source = video, path, source


def opencv_name(path: Path) -> str:
    """The name of a video for OpenCV, which aborts the process on names that are not UTF-8.

    Raises:
        ValueError: if the name is not UTF-8.
    """
    name = str(path)
    if name.encode("utf-8", "replace").decode("utf-8") != name:
        raise ValueError(f"{path}: OpenCV cannot open a video whose name is not UTF-8; rename it")
    return name
