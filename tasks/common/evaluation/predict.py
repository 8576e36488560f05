"""Predictions for whatever a user points at: images, folders, globs, videos."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
from torch import nn

from datasets.files import atomic_write
from datasets.images import IMAGE_SUFFIXES, UnreadableImageError, read_image, write_image
from datasets.types import Image
from tasks.common.evaluation.evaluate import predict_pixels
from tasks.common.runtime.progress import Progress
from tasks.common.task import Task

T = TypeVar("T")
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
RECORDS = "predictions.jsonl"
BATCH_SIZE = 8


class Picture(NamedTuple):
    """One image to predict for: a file, or a frame of a video counted from 0."""

    path: Path
    frame: int | None
    image: Image


def predict_files(task: Task[T], model: nn.Module, paths: Sequence[Path], out: Path) -> int:
    """Predict for images and videos; drawn pictures, drawn videos and one `predictions.jsonl` go to `out`.

    Args:
        task: prepares, decodes, draws.
        model: on its device.
        paths: from `find_files`.
        out: an existing folder.

    Returns:
        The number of images and frames.

    Raises:
        ValueError: if nothing could be read.
    """
    num_pictures = 0
    with (
        Progress("predicting", len(paths)) as progress,
        atomic_write(out / RECORDS) as temporary,
        temporary.open("w", encoding="utf-8") as records,
        _Canvas(out) as canvas,
    ):
        for batch in _batches(_prepared(task, _pictures(paths, progress))):
            predictions = predict_pixels(task, model, [pixels for _, pixels in batch])
            for (picture, _), predicted in zip(batch, predictions, strict=True):
                height, width = picture.image.shape[:2]
                place = {"image": str(picture.path), "frame": picture.frame, "width": width, "height": height}
                records.write(json.dumps(place | task.describe(predicted, (height, width))) + "\n")
                canvas.add(picture, task.draw(picture.image, predicted))
            num_pictures += len(batch)
    if num_pictures == 0:
        raise ValueError(f"none of the {len(paths)} files could be read")
    return num_pictures


def find_files(inputs: Sequence[str]) -> list[Path]:
    """The images and videos that paths, folders and globs name, each once, in order.

    Raises:
        ValueError: if one of them names nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            below = glob.glob(f"{glob.escape(text)}/**/*", recursive=True)  # unlike rglob it follows links to folders
            files = sorted(p for p in map(Path, below) if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        elif path.exists():
            files = [path]
        else:
            files = [Path(name) for name in sorted(glob.glob(text, recursive=True)) if Path(name).is_file()]
        if not files:
            raise ValueError(f"{text}: no image or video there; expected an image, a folder, a glob or a video")
        found |= dict.fromkeys(files)
    return list(found)


class _Canvas:
    """Where drawn pictures go: an image beside the others, a frame into its video."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._taken: set[str] = set()
        self._video: cv2.VideoWriter | None = None
        self._video_of: Path | None = None

    def __enter__(self) -> _Canvas:
        return self

    def __exit__(self, *_: Any) -> None:
        self._close_video()

    def add(self, picture: Picture, drawn: Image) -> None:
        if picture.frame is None:
            write_image(self._free_path(picture.path.stem, ".jpg"), drawn)
            return
        if self._video_of != picture.path:
            self._close_video()
            rate = cv2.VideoCapture(_opencv_name(picture.path)).get(cv2.CAP_PROP_FPS) or 25.0
            path = self._free_path(picture.path.stem, ".mp4")
            size = (drawn.shape[1], drawn.shape[0])
            self._video = cv2.VideoWriter(_opencv_name(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            if not self._video.isOpened():
                raise ValueError(
                    f"{path}: OpenCV cannot write MPEG-4 video here: its codec is missing, or the file cannot be made; "
                    "`pip install opencv-python-headless` has the codec, and frames as images need none"
                )
            self._video_of = picture.path
        assert self._video is not None
        self._video.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.release()

    def _free_path(self, stem: str, suffix: str) -> Path:
        """Files of one name from several folders get numbers."""
        name, number = f"{stem}{suffix}", 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name)
        return self._out / name


def _pictures(paths: Sequence[Path], progress: Progress) -> Iterator[Picture]:
    for path in paths:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield from _frames(path)
        else:
            try:
                yield Picture(path, None, read_image(path))
            except UnreadableImageError as error:
                warnings.warn(f"{error}; left out", stacklevel=2)
        progress.describe(path.name)
        progress.advance()


def _frames(path: Path) -> Iterator[Picture]:
    try:
        capture = cv2.VideoCapture(_opencv_name(path))
    except ValueError as error:
        warnings.warn(f"{error}; left out", stacklevel=2)
        return
    number = 0
    while True:
        there_is_one, frame = capture.read()
        if not there_is_one:
            break
        yield Picture(path, number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
        number += 1
    capture.release()
    if number == 0:
        warnings.warn(f"{path}: not a video that OpenCV can read; left out", stacklevel=2)


def _opencv_name(path: Path) -> str:
    """The name of a video for OpenCV, which ends the process at one that is not UTF-8.

    Raises:
        ValueError: if it is not.
    """
    name = str(path)
    if name.encode("utf-8", "replace").decode("utf-8") != name:
        raise ValueError(f"{path}: OpenCV opens no video whose name is not UTF-8; rename it")
    return name


def _prepared(task: Task[T], pictures: Iterator[Picture]) -> Iterator[tuple[Picture, Image]]:
    """Each picture, and what the network sees of it; those without a face to cut out are left out."""
    preprocess = task.preprocessing()
    for picture in pictures:
        try:
            yield picture, preprocess(picture.image)
        except UnreadableImageError as error:
            warnings.warn(f"{picture.path}: {error}; left out", stacklevel=2)


def _batches(pictures: Iterator[tuple[Picture, Image]]) -> Iterator[list[tuple[Picture, Image]]]:
    batch: list[tuple[Picture, Image]] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch
