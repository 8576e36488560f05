"""Read and write image files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image as Pillow
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.WebPImagePlugin import WebPImageFile

from datasets.types import Image

# What is read, as far as files are chosen by their names; decoding goes by the bytes, whatever the name is.
IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        *(".png", ".apng", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
        *(".avif", ".heic", ".heif", ".hif"),
    }
)

_JPEG = b"\xff\xd8\xff"
# A marker: FF and the segment's type. Not segments: FF00, a stuffed FF in image data; FF01, FFD8 and the restart
# markers FFD0 to FFD7, which have no content; FF before another FF, a fill byte.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_END_OF_IMAGE, _APP1 = 0xD9, 0xE1
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112  # the tag of EXIF and TIFF
_TRANSPOSED = range(5, 9)  # orientations
_SIGNATURE_BYTES = 32
_PNG_BIT_DEPTH_OFFSET = 24
_HEADER_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO], ImageFile]], ...] = (
    (lambda start: start.startswith(_JPEG), JpegImageFile),
    (lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile),
    (lambda start: start.startswith(b"BM"), BmpImageFile),
    (lambda start: start.startswith((b"GIF87a", b"GIF89a")), GifImageFile),
    (lambda start: start.startswith(b"RIFF") and start[8:12] == b"WEBP", WebPImageFile),
    (lambda start: start[4:12] in {b"ftypavif", b"ftypavis"}, AvifImageFile),
)
_HEADER_THREADS = 8
_HEADERS_AT_ONCE = 64
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}


class UnreadableImageError(ValueError):
    """An image file that is missing, truncated, or not an image."""


class ImageHeader(NamedTuple):
    """What an image file says about itself before its pixels.

    Attributes:
        width: in pixels, as `read_image` returns it: with the orientation applied.
        height: likewise.
        bits: of each channel: 8 in most files, 16 or 32 in those of microscopes and depth cameras. Files of AVIF and
            HEIC, which are decoded to 8 bits, count as 8.
        format: such as "JPEG".
        orientation: of EXIF: 1 for pixels that are stored upright, 5 to 8 where stored rows are columns of the image.
    """

    width: int
    height: int
    bits: int
    format: str
    orientation: int


def image_names(root: Path, folder: str) -> list[str]:
    """The names of the image files in a folder below `root`, relative to `root`, sorted; without hidden files."""
    return sorted(
        f"{folder}/{entry.name}"
        for entry in os.scandir(root / folder)
        if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    )


def image_header(path: Path) -> ImageHeader:
    """Size and depth of an image file, from its first bytes, without decoding it.

    A JPEG file that does not end as it should is read in full, to tell a truncated one from one with data after the
    image. Other formats are checked only when they are decoded.

    Raises:
        UnreadableImageError: if the file is missing, has no header of a known image format, or is a truncated JPEG.
    """
    try:
        with path.open("rb") as file:
            return _header(file)
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # Pillow raises errors of many types for headers that make no sense
        raise UnreadableImageError(f"{path}: {error}") from error


def image_headers(paths: Sequence[Path]) -> Iterator[ImageHeader | UnreadableImageError]:
    """The header of each file, or why there is none, in the order of `paths`; files are read in threads."""
    step = _HEADERS_AT_ONCE  # by one thread, since threads that change after each file take twice as long
    with ThreadPoolExecutor(_HEADER_THREADS) as executor:
        for first in range(0, len(paths), step * _HEADER_THREADS):  # not all at once: memory stays flat
            starts = range(first, min(first + step * _HEADER_THREADS, len(paths)), step)
            for headers in executor.map(_headers_or_errors, [paths[start : start + step] for start in starts]):
                yield from headers


def _headers_or_errors(paths: Sequence[Path]) -> list[ImageHeader | UnreadableImageError]:
    results: list[ImageHeader | UnreadableImageError] = []
    for path in paths:
        try:
            results.append(image_header(path))
        except UnreadableImageError as error:
            results.append(error)
    return results


def _header(file: BinaryIO) -> ImageHeader:
    start = file.read(_SIGNATURE_BYTES)
    file.seek(0)
    if start.startswith((b"II", b"MM")):
        return _tiff_header(file)
    for has_signature, reader in _HEADER_READERS:
        if has_signature(start):
            header = _pillow_header(reader, file)
            if header.format == "JPEG" and not _ends_as_jpeg(file):
                raise ValueError("truncated image")
            return header
    raise ValueError("not an image" if start else "an empty file")


def _pillow_header(reader: Callable[[BinaryIO], ImageFile], file: BinaryIO) -> ImageHeader:
    """Not by `Pillow.open`, which warns of large images, tries more formats, and takes longer."""
    image = reader(file)
    bits = 8
    if isinstance(image, PngImageFile):
        file.seek(_PNG_BIT_DEPTH_OFFSET)
        bits = file.read(1)[0]
    exif = Pillow.Exif()
    exif.load(image.info.get("exif", b""))  # not `image.getexif()`, which takes an orientation from XMP, unlike OpenCV
    orientation = exif.get(_ORIENTATION, 1)
    return _upright_header(image.width, image.height, bits, str(image.format), orientation)


def _tiff_header(file: BinaryIO) -> ImageHeader:
    """Of the first page, whatever its pixels are; Pillow refuses some kinds of them."""
    start = file.read(8)
    if start[2:3] == b"\x2b" or start[3:4] == b"\x2b":  # a BigTIFF file has a longer header
        start += file.read(8)
    tags = ImageFileDirectory_v2(start)
    file.seek(tags.next)
    tags.load(file)
    return _upright_header(tags[256], tags[257], max(tags.get(258, (1,))), "TIFF", tags.get(_ORIENTATION, 1))


def _upright_header(width: int, height: int, bits: int, image_format: str, orientation: int) -> ImageHeader:
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if orientation in _TRANSPOSED:
        width, height = height, width
    return ImageHeader(width, height, bits, image_format, orientation if orientation in range(1, 9) else 1)


def _ends_as_jpeg(file: BinaryIO) -> bool:
    file.seek(-2, os.SEEK_END)
    if file.read(2) == bytes([0xFF, _END_OF_IMAGE]):
        return True
    file.seek(0)
    segments = list(_jpeg_segments(file.read()))
    return bool(segments) and segments[-1][0] == _END_OF_IMAGE


def read_image(path: Path, *, expected_hw: tuple[int, int] | None = None, min_side_px: int | None = None) -> Image:
    """Read an image file, see `decode_image`.

    Raises:
        UnreadableImageError: if it cannot be read in full or does not have the expected size.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error.strerror}") from error
    return decode_image(data, path, expected_hw=expected_hw, min_side_px=min_side_px)


def decode_image(
    data: bytes, path: Path, *, expected_hw: tuple[int, int] | None = None, min_side_px: int | None = None
) -> Image:
    """Decode an image file to 8-bit RGB, with its EXIF orientation applied.

    Greyscale, palette, CMYK and 16-bit files are converted.

    JPEG files are decoded by libjpeg-turbo, through simplejpeg or, if they have EXIF data, through OpenCV; both give
    the same pixels. Bytes after the end of the image, such as the video of a Motion Photo, are ignored in any format.

    Args:
        data: the file's bytes, in any format that OpenCV reads.
        path: for error messages.
        expected_hw: the image size of the annotations. Some tools annotate the pixels as stored, ignoring EXIF; if only
            the stored pixels have the expected size, they are returned.
        min_side_px: allows decoding a JPEG file at a reduced size with both sides at least this long, which is much
            faster for large photos; None for full size.

    Raises:
        UnreadableImageError: if it cannot be read in full or does not have the expected size.
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

    Not with `cv2.imwrite`, which aborts the process on file names that are not UTF-8 and gives no reason for errors.
    """
    is_encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        raise OSError(f"{path}: the image could not be encoded")
    path.write_bytes(data.tobytes())


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Type and content offset of each segment of a JPEG file, up to the end of the image.

    Embedded thumbnails and data appended to the file are not searched. The entropy-coded data of a scan is skipped: it
    contains no markers, since FF is stuffed.

    Source: ITU-T T.81, annex B.
    """
    position = len(b"\xff\xd8")
    while marker := _MARKER.search(data, position):
        segment_type, start = marker[1][0], marker.end()
        yield segment_type, start + 2
        if segment_type == _END_OF_IMAGE:
            return
        position = start + int.from_bytes(data[start : start + 2], "big")  # the length includes its own two bytes


def _decode_jpeg(data: bytes, path: Path, min_side_px: int | None) -> Image | None:
    """Decode a JPEG; None if it needs OpenCV: files that simplejpeg cannot read, and EXIF files at full size.

    Raises:
        UnreadableImageError: if the file is truncated. Both decoders would silently fill the missing rows with grey;
            OpenCV detects truncation in all other formats.
    """
    segments = list(_jpeg_segments(data))
    if not segments or segments[-1][0] != _END_OF_IMAGE:
        raise UnreadableImageError(f"{path}: truncated image")
    has_exif = any(segment_type == _APP1 and data.startswith(_EXIF, start) for segment_type, start in segments)
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
