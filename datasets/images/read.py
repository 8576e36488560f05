"""Read and write image files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from datasets.images.decoding import PixelRange, as_stored, decode, stored_values
from datasets.images.headers import ImageHeader, is_truncated_jpeg, read_header
from datasets.types import Image

K = TypeVar("K")

# What is read, as far as files are chosen by their names; decoding goes by the bytes, whatever the name is.
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        *(".png", ".apng", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
        *(".avif", ".heic", ".heif", ".hif"),
    }
)

_HEADER_THREADS = 8
_HEADERS_AT_ONCE = 64


class UnreadableImageError(ValueError):
    """An image file that is missing, truncated, or not an image."""


@dataclass(frozen=True)
class Decoding:
    """How files become pixels.

    Attributes:
        min_side_px: allows decoding a JPEG file at a reduced size with both sides at least this long, which is much
            faster for large photos; None for full size.
        pixel_range: the values that become black and white in images of more than 8 bits, such as 0 and 4095 for 12
            bits in a file of 16; None for the range of their type: 0 to 65535 for 16 bits, 0 to 1 for floats.
    """

    min_side_px: int | None = None
    pixel_range: PixelRange | None = None


AS_STORED = Decoding()


class ValueRange(NamedTuple):
    """The values of an image of more than 8 bits.

    Attributes:
        low: the smallest.
        high: the largest.
        type_max: the largest value that its type can have; 1 for floats.
        is_float: whether they are floats.
    """

    low: float
    high: float
    type_max: float
    is_float: bool


def value_range(path: Path) -> ValueRange:
    """The values that an image of more than 8 bits has before they are scaled.

    Raises:
        UnreadableImageError: if it cannot be read in full.
    """
    return value_range_of(read_bytes(path), path)


def value_range_of(data: bytes, path: Path | str) -> ValueRange:
    """`value_range` of the bytes of a file.

    Raises:
        UnreadableImageError: see there.
    """
    try:
        values = stored_values(data)
    except ValueError as error:
        raise unreadable(path, error) from error
    is_float = bool(np.issubdtype(values.dtype, np.floating))
    type_max = 1.0 if is_float else float(np.iinfo(values.dtype).max)
    return ValueRange(float(values.min()), float(values.max()), type_max, is_float)


def image_header(path: Path) -> ImageHeader:
    """Size and depth of an image file, from its first bytes.

    A JPEG file that does not end as it should is read in full, to tell a truncated one from one with data after the
    image. Other formats are checked only when they are decoded, which a header that makes no sense leads to.

    Raises:
        UnreadableImageError: if the file is missing, has no header of a known image format, or is a truncated JPEG.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file)
            is_truncated = header.format == "JPEG" and is_truncated_jpeg(file)
    except Exception:  # of many types; Pillow is strict about parts that the pixels do not need, such as long texts
        return _header_of_pixels(read_image(path))
    if is_truncated:
        raise UnreadableImageError(f"{path}: truncated image")
    return header


def header_of(data: bytes, path: Path | str) -> ImageHeader:
    """`image_header` of the bytes of a file.

    Raises:
        UnreadableImageError: see there.
    """
    try:
        file = io.BytesIO(data)
        header = read_header(file)
        is_truncated = header.format == "JPEG" and is_truncated_jpeg(file)
    except Exception:  # see `image_header`
        return _header_of_pixels(decode_image(data, path))
    if is_truncated:
        raise UnreadableImageError(f"{path}: truncated image")
    return header


def _header_of_pixels(image: Image) -> ImageHeader:
    height, width = image.shape[:2]
    return ImageHeader(width, height, 8, "unknown", 1, "RGB")


def image_headers(
    keys: Sequence[K],
    header: Callable[[K], ImageHeader] = image_header,  # type: ignore[assignment]  # K is Path
) -> Iterator[ImageHeader | UnreadableImageError]:
    """The header of each image, or why there is none, in their order; files are read in threads.

    Args:
        keys: paths, or whatever `header` takes.
        header: of one image; raises an UnreadableImageError.
    """
    step = _HEADERS_AT_ONCE  # by one thread, since threads that change after each file take twice as long

    def of_part(start: int) -> list[ImageHeader | UnreadableImageError]:
        return [_header_or_error(key, header) for key in keys[start : start + step]]

    with ThreadPoolExecutor(_HEADER_THREADS) as executor:
        for first in range(0, len(keys), step * _HEADER_THREADS):  # not all at once: memory stays flat
            starts = range(first, min(first + step * _HEADER_THREADS, len(keys)), step)
            for headers in executor.map(of_part, starts):
                yield from headers


def unreadable(path: Path | str, error: Exception) -> UnreadableImageError:
    """The error for a file that cannot be read, with its reason in one line."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreadableImageError(f"{path}: {' '.join(reason.split())}")  # in one line


def _header_or_error(key: K, header: Callable[[K], ImageHeader]) -> ImageHeader | UnreadableImageError:
    try:
        return header(key)
    except UnreadableImageError as error:
        return error


def read_image(path: Path, decoding: Decoding = AS_STORED, *, expected_hw: tuple[int, int] | None = None) -> Image:
    """Read an image file, see `decode_image`.

    Raises:
        UnreadableImageError: if it cannot be read in full or does not have the expected size.
    """
    return decode_image(read_bytes(path), path, decoding, expected_hw=expected_hw)


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImageError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def decode_image(
    data: bytes, path: Path | str, decoding: Decoding = AS_STORED, *, expected_hw: tuple[int, int] | None = None
) -> Image:
    """Decode an image file to 8-bit RGB, with its orientation (EXIF's, or that of AVIF and HEIC) applied.

    Greyscale, palette and CMYK files are converted. Images of more than 8 bits are scaled, see `Decoding`. An alpha
    channel is dropped, as by Pillow's `convert("RGB")` and torchvision, so that transparent pixels have the colours
    that are stored for them. Of an animation the first picture is read, of a TIFF file the first page.

    JPEG files are decoded by libjpeg-turbo, through simplejpeg or, if they have EXIF data, through OpenCV; both give
    the same pixels. Bytes after the end of the image, such as the video of a Motion Photo, are ignored in any format.

    Args:
        data: the file's bytes; the format is told by them, not by the name.
        path: or a URL, for error messages.
        decoding: of which size and range of values.
        expected_hw: the image size of the annotations. Some tools annotate the pixels as stored, ignoring EXIF; if only
            the stored pixels have the expected size, they are returned.

    Raises:
        UnreadableImageError: if it cannot be read in full or does not have the expected size.
    """
    try:
        image = decode(data, min_side_px=decoding.min_side_px, pixel_range=decoding.pixel_range)
        height, width = image.shape[:2]
        if expected_hw is not None and (width, height) == expected_hw != (height, width):
            image = as_stored(image, data)
    except ValueError as error:
        raise unreadable(path, error) from error
    if expected_hw is not None and image.shape[:2] != expected_hw:
        raise UnreadableImageError(
            f"{path}: {width} x {height} pixels, but its annotations are for {expected_hw[1]} x {expected_hw[0]}"
        )
    return image


def write_image(path: Path, image: Image) -> None:
    """Write an RGB image in the format of the path's suffix.

    Not with `cv2.imwrite`, which aborts the process on file names that are not UTF-8 and gives no reason for errors.
    """
    path.write_bytes(encode_image(image, path.suffix))


def encode_image(image: Image, suffix: str) -> bytes:
    """An RGB image as the bytes of a file of that suffix."""
    is_encoded, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise OSError(f"the image could not be encoded as {suffix}")
    return data.tobytes()
