"""What image files say about themselves before their pixels: format, size, depth and orientation."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from PIL import Image as Pillow
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    ImageFileDirectory_v2,
    TiffImageFile,
)
from PIL.WebPImagePlugin import WebPImageFile

SIGNATURE_BYTES = 64  # that `format_of` needs
END_OF_IMAGE, APP1 = 0xD9, 0xE1  # types of JPEG segments
# A marker: FF and the segment's type. Not segments: FF00, a stuffed FF in image data; FF01, FFD8 and the restart
# markers FFD0 to FFD7, which have no content; FF before another FF, a fill byte.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_SIGNATURES = (
    ("JPEG", (b"\xff\xd8\xff",)),
    ("PNG", (b"\x89PNG\r\n\x1a\n",)),
    ("GIF", (b"GIF87a", b"GIF89a")),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("BMP", (b"BM",)),
    ("PPM", tuple(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\r\n")),
)
_READERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "PPM": PpmImageFile,
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
}
_HEIF_BRAND = re.compile(rb"(hei|hev|mif1|msf1)")
PNG_CHUNKS_OFFSET, PNG_DEPTH_OFFSET = 8, 24
_TIFF_MODES = {0: "L", 1: "L", 3: "P", 5: "CMYK"}  # by photometric interpretation
ORIENTATION = 274  # the tag of EXIF and TIFF
TRANSPOSED = frozenset(range(5, 9))  # orientations


class ImageHeader(NamedTuple):
    """What an image file says about itself.

    Attributes:
        width: in pixels, as `datasets.images.read.read_image` returns it: with the orientation applied.
        height: likewise.
        bits: of each channel: 8 in most files, more in those of microscopes and depth cameras. AVIF and HEIC, which are
            decoded to 8 bits whatever they store, count as 8.
        format: such as "JPEG".
        orientation: of EXIF: 1 for pixels that are stored upright, 5 to 8 where stored rows are columns of the image.
        mode: Pillow's name of the kind of pixels, such as "L" for grey and "RGB".
    """

    width: int
    height: int
    bits: int
    format: str
    orientation: int
    mode: str


def format_of(start: bytes) -> str | None:
    """The format of a file that begins like this, None if it is none that is read."""
    for name, signatures in _SIGNATURES:
        if start.startswith(signatures):
            return name
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":  # ISO/IEC 14496-12: the major brand, a version, and the brands that it is compatible with
        brands = start[8:12] + start[16 : min(int.from_bytes(start[:4], "big"), SIGNATURE_BYTES)]
        if b"avi" in brands:
            return "AVIF"
        return "HEIC" if _HEIF_BRAND.search(brands) else None
    return None


def read_header(file: BinaryIO) -> ImageHeader:
    """The header of an image file.

    Raises:
        Exception: if it makes no sense, of many types, since Pillow's readers do not check.
    """
    start = file.read(SIGNATURE_BYTES)
    file.seek(0)
    image_format = format_of(start)
    if image_format is None:
        raise ValueError("not an image" if start else "an empty file")
    if image_format == "TIFF":
        tags = tiff_tags(file)
        width, height = int(tags[IMAGEWIDTH]), int(tags[IMAGELENGTH])  # damaged ones are texts or fractions
        bits = int(max(tags.get(BITSPERSAMPLE, (1,))))
        mode = _TIFF_MODES.get(tags.get(PHOTOMETRIC_INTERPRETATION, 2), "RGB")
        return _upright(width, height, bits, image_format, tags.get(ORIENTATION, 1), mode)
    image = open_with_pillow(file, image_format)
    largest = image.tile[0][3][-1] if image_format == "PPM" and isinstance(image.tile[0][3], tuple) else 255
    is_deep = largest > 255 or image.mode == "I" or (image_format == "PNG" and start[PNG_DEPTH_OFFSET] > 8)
    return _upright(image.width, image.height, 16 if is_deep else 8, image_format, orientation_of(image), image.mode)


def open_with_pillow(file: BinaryIO, image_format: str) -> ImageFile:
    """A file opened by the reader of its format.

    Not by `Pillow.open`, which warns of large images, tries more formats, and takes longer.
    """
    return heif_reader()(file) if image_format == "HEIC" else _READERS[image_format](file)


def heif_reader() -> Callable[[BinaryIO], ImageFile]:
    """The reader of HEIC, an optional dependency.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        reader: Callable[[BinaryIO], ImageFile] = importlib.import_module("pi_heif").HeifImageFile
    except ImportError as error:
        raise ValueError("this is HEIC; `pip install '.[heif]'` reads it, or convert it to JPEG") from error
    return reader


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Type and content offset of each segment of a JPEG file, up to the end of the image.

    Embedded thumbnails and data appended to the file are not searched. The entropy-coded data of a scan is skipped: it
    contains no markers, since FF is stuffed.

    Source: ITU-T T.81, annex B.
    """
    position = len(b"\xff\xd8")
    while marker := _MARKER.search(data, position):
        segment_type, start = marker[1][0], marker.end()
        yield segment_type, start + 2
        if segment_type == END_OF_IMAGE:
            return
        position = start + int.from_bytes(data[start : start + 2], "big")  # the length includes its own two bytes


def is_truncated_jpeg(file: BinaryIO) -> bool:
    """Whether a JPEG file ends before its image does; read in full only if its last bytes leave that open."""
    file.seek(-2, os.SEEK_END)
    if file.read(2) == bytes([0xFF, END_OF_IMAGE]):
        return False
    file.seek(0)
    return all(segment_type != END_OF_IMAGE for segment_type, _ in jpeg_segments(file.read()))


def read_exif(file: BinaryIO) -> Pillow.Exif:
    """The EXIF data of an image file, empty if it has none.

    Raises:
        Exception: if the file, or they, make no sense, of many types.
    """
    image_format = format_of(file.read(SIGNATURE_BYTES))
    file.seek(0)
    if image_format is None:
        raise ValueError("not an image")
    if image_format == "TIFF":  # its tags are those of EXIF
        exif = Pillow.Exif()
        exif.load_from_fp(file)
        return exif
    return _exif_of(open_with_pillow(file, image_format))


def orientation_of(image: ImageFile) -> int:
    """The orientation of EXIF."""
    try:
        return int(_exif_of(image).get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data, where the image may be intact
        return 1


def _exif_of(image: ImageFile) -> Pillow.Exif:
    """Not `image.getexif()`, which takes the orientation from XMP too, unlike OpenCV and browsers."""
    exif = Pillow.Exif()
    exif.load(image.info.get("exif", b""))
    return exif


def tiff_tags(file: BinaryIO) -> ImageFileDirectory_v2:
    """The tags of the first page of a TIFF file, whatever its pixels are; Pillow refuses some kinds of them."""
    start = file.read(8)
    if start.startswith(b"II+"):  # a BigTIFF file has a longer header
        start += file.read(8)
    if start.startswith(b"MM\0+"):
        raise ValueError("BigTIFF with big-endian numbers, which is not read")
    tags = ImageFileDirectory_v2(start)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _upright(width: int, height: int, bits: int, image_format: str, orientation: int, mode: str) -> ImageHeader:
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if orientation in TRANSPOSED:
        width, height = height, width
    return ImageHeader(width, height, bits, image_format, orientation if orientation in range(1, 9) else 1, mode)
