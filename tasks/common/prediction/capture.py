"""Frames of videos, cameras and streams, by OpenCV."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from datasets.images.read import UnreadableImageError
from datasets.types import Image

TIMEOUT_MS = 10_000  # of a stream that sends nothing
POLL_S = 0.2  # how soon a signal is seen while a stream sends nothing
DEFAULT_FRAMES_PER_S, MAX_FRAMES_PER_S = 25.0, 240.0  # where none, or nonsense, is stated
_FFMPEG_LOG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"
_SILENT = "-8"  # FFmpeg's AV_LOG_QUIET


def open_capture(location: str | int) -> cv2.VideoCapture:
    """Open a video file, a camera or a stream; without OpenCV's and FFmpeg's own messages, which go to stderr."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault(_FFMPEG_LOG_LEVEL, _SILENT)
    if isinstance(location, int):
        return cv2.VideoCapture(location)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    capture = cv2.VideoCapture(location, cv2.CAP_FFMPEG, timeouts)
    return capture if capture.isOpened() else cv2.VideoCapture(location)  # by another of OpenCV's readers


def read_frames(location: str, name: str) -> Iterator[Image]:
    """All frames of a video.

    Args:
        location: a file or a URL.
        name: for messages.

    Raises:
        UnreadableImageError: if it has none, or breaks off.
    """
    capture = open_capture(location)
    num_frames = 0
    try:
        while (frame := _next_frame(capture)) is not None:
            yield frame
            num_frames += 1
    finally:
        capture.release()
    if num_frames == 0:
        raise UnreadableImageError(f"{name}: OpenCV cannot read this video")


def latest_frames(location: str | int, name: str, stop: Sequence[int] = ()) -> Iterator[tuple[int, Image]]:
    """The newest frame of a camera or a stream whenever one is asked for, with its index; others are dropped.

    Args:
        location: a camera's number or a URL.
        name: for messages.
        stop: ends it once there is something in it, such as a signal.

    Raises:
        UnreadableImageError: if there is none.
    """
    capture = open_live(location, name)
    newest = _NewestFrame(capture)
    num_frames = 0
    try:
        while (found := newest.wait(stop)) is not None:
            yield found
            num_frames += 1
    finally:
        newest.stop()
    if num_frames == 0 and not stop:
        raise UnreadableImageError(f"{name}: no frame came from it")


def frames_per_s(capture: cv2.VideoCapture) -> float:
    """The frame rate that a video, a camera or a stream states."""
    stated = capture.get(cv2.CAP_PROP_FPS)
    return stated if 0 < stated <= MAX_FRAMES_PER_S else DEFAULT_FRAMES_PER_S


def open_live(location: str | int, name: str) -> cv2.VideoCapture:
    """Open a camera or a stream.

    Raises:
        UnreadableImageError: if that is not possible.
    """
    capture = open_capture(location)
    if capture.isOpened():
        return capture
    capture.release()
    if isinstance(location, str):
        raise UnreadableImageError(f"{name}: no stream that OpenCV can open; is the address right, and is it sending?")
    devices = ", ".join(sorted(map(str, Path("/dev").glob("video*"))))
    raise UnreadableImageError(
        f"{name}: there is no such camera, or another program uses it; found {devices or 'no camera'}"
    )


def opencv_name(path: Path) -> str:
    """The name of a video for OpenCV, which aborts the process on names that are not UTF-8.

    Raises:
        ValueError: if the name is not UTF-8.
    """
    name = str(path)
    if name.encode("utf-8", "replace").decode("utf-8") != name:
        raise ValueError(f"{path}: OpenCV cannot open a video whose name is not UTF-8; rename it")
    return name


def _next_frame(capture: cv2.VideoCapture) -> Image | None:
    has_frame, frame = capture.read()
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if has_frame else None  # type: ignore[return-value]


class _NewestFrame:
    """Reads a capture in a thread of its own, so that its buffer never fills with old frames."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._found: tuple[int, Image] | None = None
        self._has_ended = self._is_stopped = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self, stop: Sequence[int]) -> tuple[int, Image] | None:
        """The newest frame that was not returned before, with its index; None at the end, or if it is to stop."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._found is not None or self._has_ended, POLL_S):
                if stop:
                    return None
            found, self._found = self._found, None
            return found

    def stop(self) -> None:
        """End the thread, which releases the capture: at once, or where a stream hangs when that times out."""
        self._is_stopped = True
        self._thread.join(2 * POLL_S)

    def _read(self) -> None:
        index, frame = 0, None
        try:
            while not self._is_stopped and (frame := _next_frame(self._capture)) is not None:
                with self._changed:
                    self._found = index, frame
                    self._changed.notify()
                index += 1
        finally:
            self._capture.release()
            with self._changed:
                self._has_ended = True
                self._changed.notify()
