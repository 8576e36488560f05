"""Predictions for images, folders, globs and videos."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import cv2
from torch import nn

from datasets.files import atomic_write
from datasets.images import IMAGE_SUFFIXES, UnreadableImageError, read_image, write_image
from datasets.progress import Progress
from datasets.types import Image
from tasks.common.evaluation.evaluate import predict_pixels
from tasks.common.task import Task

T = TypeVar("T")
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
RECORDS = "predictions.jsonl"
BATCH_SIZE = 8


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


def predict_files(task: Task[T], model: nn.Module, paths: Sequence[Path], out: Path) -> int:
    """Write `predictions.jsonl` and drawn images and videos to `out`.

    Args:
        task: preprocesses, decodes, draws.
        model: on its device.
        paths: from `find_files`.
        out: an existing folder.

    Returns:
        The number of images and frames.

    Raises:
        ValueError: if none could be read.
    """
    num_images = 0
    with (
        Progress("predicting", len(paths)) as progress,
        atomic_write(out / RECORDS) as temporary,
        temporary.open("w", encoding="utf-8") as records,
        _DrawingWriter(out) as writer,
    ):
        for batch in _batches(_preprocess(task, _read_images(paths, progress))):
            predictions = predict_pixels(task, model, [pixels for _, pixels in batch])
            for (source, _), predicted in zip(batch, predictions, strict=True):
                height, width = source.image.shape[:2]
                header = {"image": str(source.path), "frame": source.frame, "width": width, "height": height}
                records.write(json.dumps(header | task.describe(predicted, (height, width))) + "\n")
                writer.write(source, task.draw(source.image, predicted))
            num_images += len(batch)
    if num_images == 0:
        raise ValueError(f"none of the {len(paths)} files could be read")
    return num_images


def find_files(inputs: Sequence[str]) -> list[Path]:
    """The images and videos of paths, folders and globs, each once, in order.

    Raises:
        ValueError: if an input matches no file.
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


class _DrawingWriter:
    """Writes drawn images to a folder: an image to its own file, a frame to its video."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._used_names: set[str] = set()
        self._video: cv2.VideoWriter | None = None
        self._video_source: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._close_video()

    def write(self, source: InputImage, drawn: Image) -> None:
        if source.frame is None:
            write_image(self._unused_path(source.path.stem, ".jpg"), drawn)
            return
        if self._video_source != source.path:
            self._close_video()
            rate = cv2.VideoCapture(_opencv_name(source.path)).get(cv2.CAP_PROP_FPS) or 25.0
            path = self._unused_path(source.path.stem, ".mp4")
            size = (drawn.shape[1], drawn.shape[0])
            self._video = cv2.VideoWriter(_opencv_name(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            if not self._video.isOpened():
                raise ValueError(
                    f"{path}: OpenCV cannot write MPEG-4 video here: the codec is missing, or the file cannot be "
                    "created; `pip install opencv-python-headless` has the codec; or predict on frames as images"
                )
            self._video_source = source.path
        assert self._video is not None
        self._video.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.release()

    def _unused_path(self, stem: str, suffix: str) -> Path:
        """A path in the folder; files of the same name from several folders are numbered."""
        name, count = f"{stem}{suffix}", 1
        while name in self._used_names:
            count += 1
            name = f"{stem}-{count}{suffix}"
        self._used_names.add(name)
        return self._out / name


def _read_images(paths: Sequence[Path], progress: Progress) -> Iterator[InputImage]:
    for path in paths:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield from _read_frames(path)
        else:
            try:
                yield InputImage(path, None, read_image(path))
            except UnreadableImageError as error:
                warnings.warn(f"{error}; skipped", stacklevel=2)
        progress.describe(path.name)
        progress.advance()


def _read_frames(path: Path) -> Iterator[InputImage]:
    try:
        capture = cv2.VideoCapture(_opencv_name(path))
    except ValueError as error:
        warnings.warn(f"{error}; skipped", stacklevel=2)
        return
    num_frames = 0
    while True:
        has_frame, frame = capture.read()
        if not has_frame:
            break
        yield InputImage(path, num_frames, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
        num_frames += 1
    capture.release()
    if num_frames == 0:
        warnings.warn(f"{path}: OpenCV cannot read this video; skipped", stacklevel=2)


def _opencv_name(path: Path) -> str:
    """The name of a video for OpenCV, which aborts the process on names that are not UTF-8.

    Raises:
        ValueError: if the name is not UTF-8.
    """
    name = str(path)
    if name.encode("utf-8", "replace").decode("utf-8") != name:
        raise ValueError(f"{path}: OpenCV cannot open a video whose name is not UTF-8; rename it")
    return name


def _preprocess(task: Task[T], images: Iterator[InputImage]) -> Iterator[tuple[InputImage, Image]]:
    """Each image with its preprocessed pixels; images that the task's preprocessing refuses are skipped."""
    preprocess = task.preprocessing()
    for source in images:
        try:
            yield source, preprocess(source.image)
        except UnreadableImageError as error:
            warnings.warn(f"{source.path}: {error}; skipped", stacklevel=2)


def _batches(items: Iterator[tuple[InputImage, Image]]) -> Iterator[list[tuple[InputImage, Image]]]:
    while batch := list(islice(items, BATCH_SIZE)):
        yield batch
