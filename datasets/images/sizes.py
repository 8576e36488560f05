"""How many pixels an image has, from the bytes of its file, and how many are read."""

from __future__ import annotations

import struct
from collections.abc import Callable

from datasets.images.headers import jpeg_segments

MAX_PIXELS = 2**28  # of 8 bits, which are 0.8 GB as RGB
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # types of JPEG segments that have the size
_OS2_HEADER_BYTES = 12  # of the oldest BMP files
_14_BITS = 0x3FFF


class TooLargeError(ValueError):
    """An image of more pixels than are read."""


def check_pixels(width: int, height: int, bits: int = 8) -> None:
    """Refuse an image of too many pixels.

    Raises:
        TooLargeError: with its size.
    """
    limit = MAX_PIXELS * 8 // max(bits, 8)
    if width * height > limit:
        depth = "" if bits <= 8 else f" of {bits} bits"
        raise TooLargeError(
            f"{width} x {height} pixels{depth}; up to {limit / 1e6:.0f} million are read: cut it in parts"
        )


def _size_of_jpeg(data: bytes) -> tuple[int, int, int]:
    start = next((start for kind, start in jpeg_segments(data) if kind in _FRAME_HEADERS), len(data))
    height, width = struct.unpack_from(">HH", data, start + 1)
    return width, height, 8


def _size_of_png(data: bytes) -> tuple[int, int, int]:
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    return width, height, bits


def _size_of_bmp(data: bytes) -> tuple[int, int, int]:
    """A height below 0 means rows from top to bottom."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == _OS2_HEADER_BYTES else "<ii", data, 18)
    return width, abs(height), 8


def _size_of_webp(data: bytes) -> tuple[int, int, int]:
    """By the first chunk, see RFC 9649, sections 2.7 and 3.4, and RFC 6386, section 9.1."""
    kind = data[12:16]
    if kind == b"VP8X":
        width_low, width_high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        return (width_low | width_high << 16) + 1, (height_low | height_high << 16) + 1, 8
    if kind == b"VP8L":
        (sides,) = struct.unpack_from("<I", data, 21)
        return (sides & _14_BITS) + 1, (sides >> 14 & _14_BITS) + 1, 8
    width, height = struct.unpack_from("<HH", data, 26)
    return width & _14_BITS, height & _14_BITS, 8


# Width and height as stored, and the bits of each channel, where Pillow takes long or refuses files that OpenCV reads.
# They raise `struct.error` for a file that ends before.
SIZE_READERS: dict[str, Callable[[bytes], tuple[int, int, int]]] = {
    "JPEG": _size_of_jpeg,
    "PNG": _size_of_png,
    "BMP": _size_of_bmp,
    "WEBP": _size_of_webp,
}
