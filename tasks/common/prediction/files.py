"""The files that `predict` writes: a record for each image and frame, and the forms that are asked for.

What is drawn or cut out of an image is written before its record, and a record is there in full or not at all. So
whatever interrupts a prediction, the records tell where to go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import cv2

from datasets.files import read_json, write_json
from datasets.images.read import encode_image
from datasets.types import Image
from tasks.common.inference_task import InferenceTask
from tasks.common.prediction.capture import opencv_name
from tasks.common.prediction.result import Result
from tasks.common.prediction.sources import Live, Source, Video
from tasks.common.prediction.web import is_url

RECORDS, UNFINISHED, COCO_RESULTS, CROPS = "predictions.jsonl", "unfinished.json", "coco_results.json", "crops"
IMAGE_SUFFIX, VIDEO_SUFFIX = ".jpg", ".mp4"
MAX_STEM = 150  # characters, of a URL
SaveFormat = Literal["boxes", "crops", "coco", "none"]
AS_DRAWN: tuple[SaveFormat, ...] = ("boxes",)


class Rendered(NamedTuple):
    """What is written for a result besides its record.

    Attributes:
        picture: the drawn image as a file's content; None for a frame, or if it is not wanted.
        frame: the drawn frame; None for an image, or if it is not wanted.
        crops: class name and a file's content of each.
    """

    picture: bytes | None
    frame: Image | None
    crops: list[tuple[str, bytes]]


class PredictionFiles:
    """A folder of predictions, new or interrupted; a context manager that closes its files.

    Attributes:
        num_images: the number of images and frames in it.
    """

    def __init__(self, folder: Path, digest: str, formats: Collection[SaveFormat] = AS_DRAWN) -> None:
        """Open the folder.

        Args:
            folder: an empty one, or one of interrupted predictions.
            digest: of the network and the settings.
            formats: what is written beside the records.

        Raises:
            ValueError: if the predictions in the folder are of another network, other settings or in other formats.
        """
        self._unfinished = folder / UNFINISHED
        origin = {"digest": digest, "formats": sorted(set(formats))}
        if not is_unfinished(folder):
            write_json(self._unfinished, origin)
        elif read_json(self._unfinished, "what predict wrote; remove the folder, or choose another") != origin:
            raise ValueError(
                f"--out: the interrupted predictions in {folder} are of another network or other settings; choose "
                "another folder"
            )
        self._folder, self._formats = folder, frozenset(formats)
        path = folder / RECORDS
        done, size_bytes, self.num_images = _read_records(path)
        self._records = path.open("ab", buffering=0)
        self._records.truncate(size_bytes)
        self._names = _Names()
        for image, is_video in done.items():
            self._names.stem(image, is_video=is_video)  # as before
        self._video: _DrawnVideo | None = None
        self._done = done.keys()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()
        self._records.close()

    def has(self, name: str) -> bool:
        """Whether an image, or a whole video, was there when the folder was opened."""
        return name in self._done

    def render(self, result: Result[Any]) -> Rendered:
        """What is to be written for a result; several threads may do this at the same time."""
        drawn = result.draw() if "boxes" in self._formats else None
        crops = result.labelled_crops() if "crops" in self._formats else []
        encoded = [(class_name, encode_image(crop, IMAGE_SUFFIX)) for class_name, crop in crops]
        if drawn is None or result.source.frame is not None:
            return Rendered(None, drawn, encoded)
        return Rendered(encode_image(drawn, IMAGE_SUFFIX), None, encoded)

    def write(self, source: Source, result: Result[Any], rendered: Rendered) -> None:
        """Write what is rendered for a result, then its record.

        Raises:
            OSError: if that is not possible, or the last video could not be written in full.
        """
        frame = result.source.frame
        stem = self._names.stem(source.name, is_video=frame is not None)
        if self._video is not None and self._video.source != source:
            self._close_video()
        if rendered.frame is not None:
            if self._video is None:
                self._video = _DrawnVideo(self._folder / f"{stem}{VIDEO_SUFFIX}", source, rendered.frame)
            self._video.write(rendered.frame, frame or 0)
        if rendered.picture is not None:
            _write(self._folder / f"{stem}{IMAGE_SUFFIX}", rendered.picture)
        for number, (class_name, data) in enumerate(rendered.crops, 1):
            folder = self._folder / CROPS / _as_name(class_name)
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"{stem}{'' if frame is None else f'-{frame:06}'}-{number}{IMAGE_SUFFIX}", data)
        self._append(json.dumps(result.to_dict()).encode() + b"\n")
        self.num_images += 1

    def finish(self) -> None:
        """Mark the predictions as complete.

        Raises:
            OSError: if the last video could not be written in full.
        """
        self._close_video()
        if "coco" in self._formats:
            write_json(self._folder / COCO_RESULTS, _coco_results(self._folder / RECORDS))
        self._unfinished.unlink()

    def _close_video(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()
            video.check()

    def _append(self, line: bytes) -> None:
        """Write a line in full, or leave the file as it was if that fails, as on a full disk."""
        end, rest = self._records.seek(0, 2), memoryview(line)
        try:
            while rest:
                rest = rest[self._records.write(rest) :]
        except BaseException:
            self._records.truncate(end)
            raise


def check_formats(formats: Collection[SaveFormat], task: InferenceTask[Any]) -> None:
    """Raise a ValueError for formats that do not go together, or that the task's predictions cannot be written in."""
    if "none" in formats and len(set(formats)) > 1:
        raise ValueError("--save: none is for records alone; expected it by itself")
    has_objects = "category_ids" in task.metadata
    if "coco" in formats and not has_objects:
        raise ValueError(f"--save coco: tasks.{task.name} has no objects; expected a task that detects them")
    if "crops" in formats and not (has_objects or getattr(task.config.data, "align", None)):
        raise ValueError(
            f"--save crops: tasks.{task.name} has no boxes here; expected objects, or faces that are detected"
        )


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
                    image, is_video = str(record["image"]), record["frame"] is not None
                except (ValueError, KeyError, TypeError, RecursionError) as error:
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


class _Names:
    """Names of files for images and videos; equal ones, from several folders, are numbered."""

    def __init__(self) -> None:
        self._stems: dict[tuple[str, bool], str] = {}
        self._used: set[tuple[str, bool]] = set()

    def stem(self, source: str, *, is_video: bool) -> str:
        """The name, without suffix, of the files for an image or video."""
        if (source, is_video) not in self._stems:
            first = stem = _stem(source)
            count = 1
            while (stem, is_video) in self._used:
                count += 1
                stem = f"{first}-{count}"
            self._used.add((stem, is_video))
            self._stems[source, is_video] = stem
        return self._stems[source, is_video]


class _DrawnVideo:
    """Writes drawn frames as a video."""

    def __init__(self, path: Path, source: Source, first: Image) -> None:
        """Args: path: of the new file; source: of the frames; first: drawn frame, for the size."""
        assert isinstance(source, Live | Video)
        self.source = source
        self._path = path
        size = (first.shape[1], first.shape[0])
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(opencv_name(path), fourcc, source.frames_per_s, size)
        self._num_frames = 0
        if not self._writer.isOpened():
            raise ValueError(
                f"{path}: OpenCV cannot write MPEG-4 video here: the codec is missing, or the file cannot be "
                "created; `pip install opencv-python-headless` has the codec; or predict on frames as images"
            )

    def write(self, drawn: Image, index: int) -> None:
        """Write a frame, in place of those before it that were dropped too, so that the video has its speed."""
        pixels = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        while self._num_frames <= index:
            self._writer.write(pixels)
            self._num_frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()

    def check(self) -> None:
        """Raises an OSError unless the finished file can be read."""
        if not cv2.VideoCapture(opencv_name(self._path)).isOpened():
            raise OSError(f"{self._path}: the video could not be written in full; is the disk full?")


def _coco_results(path: Path) -> list[dict[str, Any]]:
    """The objects of all records in COCO's results format, with the file's name beside the image's id.

    The id is the number that a file has as its name, as COCO's own have, if all are different numbers; else records
    are counted from 1.
    """
    records = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    stems = [Path(record["image"]).stem for record in records]
    are_numbers = all(stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems)
    ids = map(int, stems) if are_numbers else range(1, len(stems) + 1)
    results = []
    for image_id, record in zip(ids, records, strict=True):
        for found in record["detections"]:
            x0, y0, x1, y1 = found["box_xyxy"]
            box = {"bbox": [x0, y0, round(x1 - x0, 1), round(y1 - y0, 1)], "score": found["score"]}
            image = {"image_id": image_id, "category_id": found["category_id"]}
            frame = {} if record["frame"] is None else {"frame": record["frame"]}
            results.append(image | box | {"file_name": record["image"]} | frame)
    return results


def _write(path: Path, data: bytes) -> None:
    """Write a file, or leave none."""
    try:
        path.write_bytes(data)
    except BaseException:
        with suppress(OSError):
            path.unlink()  # the beginning of it
        raise


def _stem(source: str) -> str:
    """A file name, without suffix, for an image or video: a path, a URL, or "camera 0"."""
    if not is_url(source):
        return Path(source).stem
    parts = urlsplit(source)
    return _as_name(Path(parts.path).stem or parts.hostname or "stream")[:MAX_STEM]


def _as_name(text: str) -> str:
    """A text as the name of a file or folder."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", text).strip(". ") or "_"
