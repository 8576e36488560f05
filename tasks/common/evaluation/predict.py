"""Predictions for images, folders, globs and videos."""

from __future__ import annotations

import glob
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
from torch import nn

from datasets.images.headers import SIGNATURE_BYTES, format_of
from datasets.images.read import IMAGE_SUFFIXES, UnreadableImageError, read_image
from datasets.listing import ImageListing, kind_of, list_images
from datasets.progress import Progress
from datasets.types import PreparedImage
from tasks.common.evaluation.evaluate import predict_pixels
from tasks.common.evaluation.prediction_files import InputImage, PredictionFiles, opencv_name
from tasks.common.task import Task

T = TypeVar("T")
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
BATCH_SIZE = 8


@dataclass
class PredictionReport:
    """What came of a prediction.

    Attributes:
        num_images: the number of images and frames in the folder, earlier ones included.
        unreadable: a line for each file that could not be read.
        refused: a line for each image that the task's preprocessing found nothing in, such as no face.
        is_interrupted: whether it was stopped before the last file.
    """

    num_images: int = 0
    unreadable: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    is_interrupted: bool = False


def predict_files(
    task: Task[T], model: nn.Module, paths: Sequence[Path], files: PredictionFiles, stop: Sequence[int] = ()
) -> PredictionReport:
    """Predict on the images and videos that are not in the folder yet.

    Args:
        task: preprocesses, decodes, draws.
        model: on its device.
        paths: from `find_files`.
        files: the open folder.
        stop: ends the prediction after a batch once there is something in it, such as a signal.

    Raises:
        ValueError: if none could be read.
    """
    report = PredictionReport()
    new = [path for path in paths if not files.has(path)]
    with Progress("predicting", len(paths), done=len(paths) - len(new)) as progress:
        for batch in _batches(_prepare(task, _read_images(task, new, progress, report), report)):
            predictions = iter(predict_pixels(task, model, [one.pixels for _, prepared in batch for one in prepared]))
            for source, prepared in batch:
                predicted = list(islice(predictions, len(prepared)))
                faces = [one.face for one in prepared if one.face is not None]
                record = task.describe_all(predicted, faces, source.image.shape[:2])
                files.write(source, task.draw_all(source.image, predicted, faces), record)
            if stop:
                report.is_interrupted = True
                break
    report.num_images = files.num_images
    if report.num_images == 0 and not report.is_interrupted:
        raise ValueError(
            f"none of the {len(paths)} files could be read; the first: {(report.unreadable + report.refused)[0]}"
        )
    if not report.is_interrupted:
        files.finish()
    return report


def find_files(inputs: Sequence[str], suffixes: Collection[str] = IMAGE_SUFFIXES | VIDEO_SUFFIXES) -> list[Path]:
    """The images and videos of paths, folders and globs, each once, in order; what is passed over is warned about.

    Args:
        inputs: files, folders or globs; a file is also wanted if its content is that of an image.
        suffixes: of the files that are wanted.

    Raises:
        ValueError: if there is no such file, or no wanted one in a folder or in all inputs.
    """
    found: dict[Path, None] = {}
    passed_over: Counter[str] = Counter()
    for text in inputs:
        files, others = _files_of(text, suffixes)
        if not files and (Path(text).is_dir() or not others):
            raise _nothing_wanted(text, others)
        found |= dict.fromkeys(files)
        passed_over += others
    if not found:  # files that are none; a shell's `photos/*` may name some beside images
        raise _nothing_wanted(" ".join(inputs), passed_over)
    if passed_over:
        warnings.warn(ImageListing([], passed_over).line(), stacklevel=2)
    return list(found)


def _files_of(text: str, suffixes: Collection[str]) -> tuple[list[Path], Counter[str]]:
    """The wanted files of a path, folder or glob, and the number of others by kind."""
    path = Path(text)
    if path.is_dir():
        listing = list_images(path, suffixes=suffixes)
        return [path / name for name in listing.names], listing.passed_over
    matches = [path] if path.is_file() else map(Path, sorted(glob.glob(text, recursive=True)))
    files = {match: _is_wanted(match, suffixes) for match in matches if match.is_file()}
    others = Counter(kind_of(file) for file, is_wanted in files.items() if not is_wanted)
    return [file for file, is_wanted in files.items() if is_wanted], others


def _is_wanted(path: Path, suffixes: Collection[str]) -> bool:
    if path.suffix.lower() in suffixes:
        return True
    with path.open("rb") as file:
        return format_of(file.read(SIGNATURE_BYTES)) is not None


def _nothing_wanted(text: str, passed_over: Counter[str]) -> ValueError:
    line = ImageListing([], passed_over).line()
    return ValueError(
        f"{text}: no image or video there{line and f' ({line})'}; expected an image, a folder, a glob or a video"
    )


def _read_images(
    task: Task[T], paths: Sequence[Path], progress: Progress, report: PredictionReport
) -> Iterator[InputImage]:
    for path in paths:
        try:
            if path.suffix.lower() in VIDEO_SUFFIXES:
                yield from _read_frames(path)
            else:
                yield InputImage(path, None, read_image(path, task.decoding))
        except UnreadableImageError as error:
            report.unreadable.append(str(error))
        progress.describe(path.name)
        progress.advance()


def _read_frames(path: Path) -> Iterator[InputImage]:
    """The frames of a video.

    Raises:
        UnreadableImageError: if it has none.
    """
    try:
        capture = cv2.VideoCapture(opencv_name(path))
    except ValueError as error:
        raise UnreadableImageError(str(error)) from error
    num_frames = 0
    while True:
        has_frame, frame = capture.read()
        if not has_frame:
            break
        yield InputImage(path, num_frames, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
        num_frames += 1
    capture.release()
    if num_frames == 0:
        raise UnreadableImageError(f"{path}: OpenCV cannot read this video")


def _prepare(
    task: Task[T], images: Iterator[InputImage], report: PredictionReport
) -> Iterator[tuple[InputImage, list[PreparedImage]]]:
    """Each image with its network inputs."""
    for source in images:
        try:
            yield source, task.prepare(source.image)
        except UnreadableImageError as error:
            frame = "" if source.frame is None else f", frame {source.frame}"
            report.refused.append(f"{source.path}{frame}: {error}")


def _batches(
    items: Iterator[tuple[InputImage, list[PreparedImage]]],
) -> Iterator[list[tuple[InputImage, list[PreparedImage]]]]:
    while batch := list(islice(items, BATCH_SIZE)):
        yield batch
