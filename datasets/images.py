"""Image files to RGB arrays, whatever cameras and scanners put into them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from datasets.types import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_JPEG = b"\xff\xd8\xff"
# FF and what kind of segment follows. Bytes that only look like one: FF00 is a stuffed FF in image data; FF01, the
# restarts FFD0 to FFD7 and FFD8 have no content; of several FF the last one counts.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_END_OF_IMAGE, _APP1 = 0xD9, 0xE1
_EXIF = b"Exif\x00\x00"
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


class UnreadableImageError(ValueError):
    """An image file that is missing, truncated, or not an image."""


def image_names(root: Path, folder: str) -> list[str]:
    """The image files in a folder below `root`, named from there, in order; hidden ones are none."""
    return sorted(
        f"{folder}/{entry.name}"
        for entry in os.scandir(root / folder)
        if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    )


def read_image(path: Path, *, expected_hw: tuple[int, int] | None = None, min_side_px: int | None = None) -> Image:
    """One image file as it is meant to be seen, see `decode_image`.

    Raises:
        UnreadableImageError: naming the file, if it cannot be read in full or its size is not the expected one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror}") from error
    return decode_image(data, path, expected_hw=expected_hw, min_side_px=min_side_px)


def decode_image(
    data: bytes, path: Path, *, expected_hw: tuple[int, int] | None = None, min_side_px: int | None = None
) -> Image:
    """The bytes of an image file as it is meant to be seen: RGB, 8 bits, turned as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit files are converted.

    JPEG files are decoded by libjpeg-turbo, through simplejpeg or, where there is EXIF data, through OpenCV; both give
    the same pixels. Bytes after the end of the image, such as the film of a Motion Photo, are ignored in any format.

    Args:
        data: in any format that OpenCV reads.
        path: what to call it in a message.
        expected_hw: the size that annotations were made for. Some tools annotate the pixels as stored, without
            turning them; where only those have the expected size, they are returned.
        min_side_px: a JPEG file may be decoded at a smaller size, as long as both its sides keep so many pixels, which
            is much faster for large photos; None for the size as stored.

    Raises:
        UnreadableImageError: naming the file, if it cannot be read in full or its size is not the expected one.
    """
    image = _decode_jpeg(data, path, min_side_px) if data.startswith(_JPEG) else None
    if image is None:
        image = _decode(data, path, cv2.IMREAD_COLOR_RGB)
    if expected_hw is not None and image.shape[:2] != expected_hw:
        height, width = image.shape[:2]
        if (width, height) == expected_hw:
            image = _decode(data, path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if image.shape[:2] != expected_hw:
            raise UnreadableImageError(
                f"{path}: {width} x {height} pixels, but its annotations are for {expected_hw[1]} x {expected_hw[0]}"
            )
    return image


def write_image(path: Path, image: Image) -> None:
    """Write an RGB image in the format of the path's suffix.

    Python writes the file: OpenCV ends the process at a file name that is not UTF-8, and does not say why it failed.
    """
    is_encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise OSError(f"{path}: the image could not be encoded")
    path.write_bytes(data.tobytes())


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind and start of the content of each segment of a JPEG file, up to the end of its image.

    So neither an embedded thumbnail nor what was appended to the file is taken for a part of it. Image data, which
    follows the segment that starts a scan, is passed over, for within it FF is stuffed.

    Source: ITU-T T.81, annex B.
    """
    position = len(b"\xff\xd8")
    while marker := _MARKER.search(data, position):
        kind, start = marker[1][0], marker.end()
        yield kind, start + 2
        if kind == _END_OF_IMAGE:
            return
        position = start + int.from_bytes(data[start : start + 2], "big")  # the length counts its own two bytes


def _decode_jpeg(data: bytes, path: Path, min_side_px: int | None) -> Image | None:
    """The pixels, or None where OpenCV must do it: what simplejpeg does not read, and whole files with EXIF data.

    Raises:
        UnreadableImageError: if the file ends before its image. Both decoders would fill the missing rows with grey and
            say nothing; OpenCV refuses truncated files of all other formats itself.
    """
    segments = list(_jpeg_segments(data))
    if not segments or segments[-1][0] != _END_OF_IMAGE:
        raise UnreadableImageError(f"{path}: truncated image")
    has_exif = any(kind == _APP1 and data.startswith(_EXIF, start) for kind, start in segments)
    try:
        if not has_exif:
            side = min_side_px or 0
            return simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, strict=False)  # type: ignore[no-any-return]
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    for factor, flag in _REDUCED.items():
        if min_side_px is not None and min(height, width) >= factor * min_side_px:
            return cv2.cvtColor(_decode(data, path, flag), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
    return None


def _decode(data: bytes, path: Path, flags: int) -> Image:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableImageError(f"{path}: {error.err}") from error
    if image is None:
        raise UnreadableImageError(f"{path}: not an image that OpenCV can read")
    return image  # type: ignore[return-value]  # 8 bits by IMREAD_COLOR
