"""Image files to RGB arrays, whatever cameras and scanners put into them."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from datasets.types import Image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# What the end of a whole file must hold after the start of its (last) image data. OpenCV fills the missing rows of a
# truncated file with grey and says nothing.
_JPEG = b"\xff\xd8\xff"
_STARTS_AND_ENDS = {
    _JPEG: (b"\xff\xda", b"\xff\xd9"),  # JPEG: start of scan, end of image
    b"\x89PNG": (b"IDAT", b"IEND"),
}
_EXIF, _EXIF_WITHIN = b"Exif\x00\x00", 4096
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
    the same pixels.

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
    for magic, (start, end) in _STARTS_AND_ENDS.items():
        if data.startswith(magic) and data.rfind(end) <= data.rfind(start):
            raise UnreadableImageError(f"{path}: truncated image")
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
    """Write an RGB image in the format of the path's suffix."""
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path}: could not be written")


def _decode_jpeg(data: bytes, path: Path, min_side_px: int | None) -> Image | None:
    """The pixels, or None where OpenCV must do it: what simplejpeg does not read, and whole files with EXIF data."""
    try:
        if _EXIF not in data[:_EXIF_WITHIN]:
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
