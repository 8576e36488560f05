"""The files that `predict` writes: a record for each image and frame, and the forms that are asked for.

What is drawn or cut out of an image is written before its record, and a record is there in full or not at all. So
whatever interrupts a prediction, the records tell where to go on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import cv2

from datasets.files import atomic_write, read_json, write_json
from datasets.images.read import encode_image
from datasets.types import Image
from tasks.common.inference_task import InferenceTask
from tasks.common.prediction.capture import opencv_name
from tasks.common.prediction.parts import COMPLETE, UNFINISHED, Parts
from tasks.common.prediction.result import Result
from tasks.common.prediction.sources import Live, Source, Video
from tasks.common.prediction.written import WrittenImages, as_name

RECORDS, COCO_RESULTS, CROPS = "predictions.jsonl", "coco_results.json", "crops"
IMAGE_SUFFIX, VIDEO_SUFFIX = ".jpg", ".mp4"
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
        folder: the folder.
        num_images: the number of images and frames in it.
        is_part: whether it is that of one of several processes.
    """

    def __init__(
        self, folder: Path, digest: str, formats: Collection[SaveFormat] = AS_DRAWN, *, inputs: str | None = None
    ) -> None:
        """Open the folder.

        Args:
            folder: an empty one, or one of interrupted predictions.
            digest: of the network and the settings.
            formats: what is written beside the records.
            inputs: of the process's part, a digest of the inputs of all processes; None for a process by itself.

        Raises:
            ValueError: if the predictions in the folder are of another network, other settings or in other formats.
        """
        self._unfinished = folder / UNFINISHED
        origin = origin_of(digest, formats, inputs)
        if not is_unfinished(folder):
            write_json(self._unfinished, origin)
        elif read_json(self._unfinished, "what predict wrote; remove the folder, or choose another") != origin:
            changed = "network or other settings" if inputs is None else "network, other settings or other inputs"
            raise ValueError(
                f"--out: the interrupted predictions in {folder} are of another {changed}; choose another folder"
            )
        self.folder, self._formats, self.is_part = folder, frozenset(formats), inputs is not None
        path = folder / RECORDS
        self._has_files = not {"boxes", "crops"}.isdisjoint(formats)  # of images, which need names
        self._images = WrittenImages()
        size_bytes, self.num_images = _read_records(path, self._images)
        self._records = path.open("ab", buffering=0)
        self._records.truncate(size_bytes)
        self._video: _DrawnVideo | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()
        self._records.close()

    def has(self, name: str) -> bool:
        """Whether there is an image, or a video, which is whole unless it is being written."""
        return name in self._images

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
        if self._video is not None and self._video.source != source:
            self._close_video()
        stem = self._images.stem(source.name, is_video=frame is not None) if self._has_files else ""
        if rendered.frame is not None:
            if self._video is None:
                self._video = _DrawnVideo(self.folder / f"{stem}{VIDEO_SUFFIX}", source, rendered.frame)
            self._video.write(rendered.frame, frame or 0)
        if rendered.picture is not None:
            _write(self.folder / f"{stem}{IMAGE_SUFFIX}", rendered.picture)
        for number, (class_name, data) in enumerate(rendered.crops, 1):
            folder = self.folder / CROPS / as_name(class_name)
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
        if self.is_part:
            os.replace(self._unfinished, self.folder / COMPLETE)
            return
        if "coco" in self._formats:
            write_coco_results(self.folder)
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


def origin_of(digest: str, formats: Collection[SaveFormat], inputs: str | None) -> dict[str, Any]:
    """What the records in a folder depend on, see `PredictionFiles`."""
    origin: dict[str, Any] = {"digest": digest, "formats": sorted(set(formats))}
    return origin if inputs is None else origin | {"inputs": inputs}


def is_unfinished(folder: Path) -> bool:
    """Whether a folder has interrupted predictions, which can be continued."""
    return (folder / UNFINISHED).is_file()


def _read_records(path: Path, images: WrittenImages) -> tuple[int, int]:
    """Add the images of whole records, in order; returns the length in bytes and the number of these records.

    Without the beginning of a record at the end, and without the records of a video at the end, which may be incomplete
    and is predicted again from its start.
    """
    size_bytes = num_records = 0
    before_last = (0, 0)  # the records before those of the last image
    last: tuple[str, bool] | None = None
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
                if last is None or last[0] != image:
                    if last is not None:
                        images.stem(last[0], is_video=last[1])
                    last, before_last = (image, is_video), (size_bytes, num_records)
                size_bytes, num_records = size_bytes + len(line), num_records + 1
    if last is not None and last[1]:
        return before_last
    if last is not None:
        images.stem(last[0], is_video=False)
    return size_bytes, num_records


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


def join_records(parts: Parts, formats: Collection[SaveFormat]) -> None:
    """Join the records of complete parts in their folder; drawn pictures stay where they are.

    Raises:
        ValueError: if nothing could be read in any part, or they are of several networks, settings or inputs.
    """
    parts.check()
    joined = parts.own / "joined"  # in the process's own folder, as two may end at the same time
    shutil.rmtree(joined, ignore_errors=True)  # of a process that was killed here
    joined.mkdir()
    with atomic_write(joined / RECORDS) as temporary, temporary.open("wb") as file:
        for part in parts.paths:
            with (part / RECORDS).open("rb") as records:
                shutil.copyfileobj(records, file)
    if (joined / RECORDS).stat().st_size == 0:
        raise ValueError("no input could be read; see what each process says")
    if "coco" in formats:
        write_coco_results(joined)
    for path in joined.iterdir():
        os.replace(path, parts.folder / path.name)
    joined.rmdir()


def write_coco_results(folder: Path) -> None:
    """Write the objects of all records in COCO's results format, with the file's name beside the image's id.

    The id is the number that a file has as its name, as COCO's own have, if all are different numbers; else records
    are counted from 1.
    """
    numbers: set[int] = set()
    are_numbers = True
    for record in _records(folder):
        stem = Path(record["image"]).stem
        are_numbers = stem.isdecimal() and int(stem) not in numbers
        if not are_numbers:
            break
        numbers.add(int(stem))
    with atomic_write(folder / COCO_RESULTS) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "["
        for count, record in enumerate(_records(folder), 1):
            image_id = int(Path(record["image"]).stem) if are_numbers else count
            for found in record["detections"]:
                x0, y0, x1, y1 = found["box_xyxy"]
                box = {"bbox": [x0, y0, round(x1 - x0, 1), round(y1 - y0, 1)], "score": found["score"]}
                image = {"image_id": image_id, "category_id": found["category_id"]}
                frame = {} if record["frame"] is None else {"frame": record["frame"]}
                file.write(f"{separator}\n{json.dumps(image | box | {'file_name': record['image']} | frame)}")
                separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    with (folder / RECORDS).open(encoding="ascii") as lines:
        yield from map(json.loads, lines)


def _write(path: Path, data: bytes) -> None:
    """Write a file, or leave none."""
    try:
        path.write_bytes(data)
    except BaseException:
        with suppress(OSError):
            path.unlink()  # the beginning of it
        raise
