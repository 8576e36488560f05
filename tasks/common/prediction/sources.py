"""What predictions are made for: images, videos, cameras and streams; `find.py` finds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from datasets.images.read import AS_STORED, Decoding, UnreadableImageError, decode_image, read_image
from datasets.types import Image
from tasks.common.prediction.capture import (
    frames_per_s,
    latest_frames,
    open_capture,
    open_live,
    opencv_name,
    read_frames,
)
from tasks.common.prediction.web import open_url


class InputImage(NamedTuple):
    """One image of a source.

    Attributes:
        name: a path, a URL, "camera 0", "standard input".
        frame: index of a frame of a video or stream, None for an image.
        image: RGB (H, W, 3).
    """

    name: str
    frame: int | None
    image: Image


@dataclass(frozen=True)
class Source(ABC):
    """An image, a video or a stream; nothing is read before `images` is called.

    Attributes:
        name: a path, a URL without its password, "camera 0", "standard input".
    """

    name: str

    @abstractmethod
    def images(self, decoding: Decoding = AS_STORED) -> Iterator[InputImage]:
        """Its image or frames.

        Raises:
            UnreadableImageError: if there is none.
        """


@dataclass(frozen=True)
class Picture(Source):
    """An image file, an image at a URL, or its bytes."""

    location: Path | str | bytes

    def images(self, decoding: Decoding = AS_STORED) -> Iterator[InputImage]:
        """The image alone."""
        yield self.read(decoding)

    def read(self, decoding: Decoding) -> InputImage:
        """The image.

        Raises:
            UnreadableImageError: if it cannot be read.
        """
        if isinstance(self.location, Path):
            return InputImage(self.name, None, read_image(self.location, decoding))
        data = self.location
        if isinstance(data, str):
            content = open_url(data)
            if content.kind != "image":
                raise UnreadableImageError(f"{self.name}: a {content.kind}; expected an image in a list")
            data = content.data
        return InputImage(self.name, None, decode_image(data, self.name, decoding))


@dataclass(frozen=True)
class Video(Source):
    """A video file, here or at a URL."""

    location: Path | str

    def images(self, decoding: Decoding = AS_STORED) -> Iterator[InputImage]:
        """All of its frames."""
        for index, image in enumerate(read_frames(self._location, self.name)):
            yield InputImage(self.name, index, image)

    @property
    def frames_per_s(self) -> float:
        """The frame rate that it states."""
        capture = open_capture(self._location)
        try:
            return frames_per_s(capture)
        finally:
            capture.release()

    @property
    def _location(self) -> str:
        try:
            return opencv_name(self.location) if isinstance(self.location, Path) else self.location
        except ValueError as error:
            raise UnreadableImageError(str(error)) from error


@dataclass(frozen=True)
class Live(Source):
    """A camera or a stream.

    Attributes:
        location: a camera's number, or a URL.
        frames_per_s: that it states.
    """

    location: int | str
    frames_per_s: float

    @classmethod
    def connect(cls, name: str, location: int | str) -> Self:
        """A camera or a stream that is there.

        Raises:
            UnreadableImageError: if it cannot be opened.
        """
        capture = open_live(location, name)
        try:
            return cls(name, location, frames_per_s(capture))
        finally:
            capture.release()

    def images(self, decoding: Decoding = AS_STORED) -> Iterator[InputImage]:
        """The newest frame whenever one is asked for, until the stream ends."""
        return self.images_until([])

    def images_until(self, stop: Sequence[int]) -> Iterator[InputImage]:
        """The newest frame whenever one is asked for, until the stream ends or there is something in `stop`."""
        for index, image in latest_frames(self.location, self.name, stop):
            yield InputImage(self.name, index, image)
