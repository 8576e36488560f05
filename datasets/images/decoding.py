"""From the bytes of an image file to 8-bit RGB pixels."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
)

from datasets.images.headers import (
    APP1,
    END_OF_IMAGE,
    PNG_CHUNKS_OFFSET,
    PNG_DEPTH_OFFSET,
    SIGNATURE_BYTES,
    ImageHeader,
    format_of,
    jpeg_segments,
    open_with_pillow,
    orientation_of,
    read_header,
    tiff_tags,
)
from datasets.images.sizes import SIZE_READERS, check_pixels
from datasets.types import Image

PixelRange = tuple[float, float]

_EXIF = b"Exif\x00\x00"
_REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_BLOCK_VALUES = 2**22  # that are scaled at once
_INVERSE = {6: 8, 8: 6}  # of the orientations of EXIF, where it is another one
_BIT_FIELDS, _BGR_FIELDS = 3, (0xFF0000, 0xFF00, 0xFF)  # a compression of BMP, and the fields of R, G and B
_UNSIGNED, _STRAIGHT_ALPHA, _PLANES, _INVERTED = 1, 2, 2, 0  # values of TIFF's tags


def decode(data: bytes, *, min_side_px: int | None, pixel_range: PixelRange | None) -> Image:
    """Decode an image file, see `datasets.images.read.decode_image`.

    Raises:
        ValueError: if it cannot be decoded in full, with the reason.
    """
    image_format = format_of(data[:SIGNATURE_BYTES])
    if image_format is None:
        raise ValueError("not an image in a format that is read" if data else "an empty file")
    if image_format in ("AVIF", "HEIC"):  # OpenCV ignores the rotation of the first and does not read the second
        return _decode_by_pillow(data, image_format)
    _check_size(data, image_format)
    if image_format == "JPEG":
        image = _decode_jpeg(data, min_side_px)
        return image if image is not None else _decode_by_opencv(data, cv2.IMREAD_COLOR_RGB)
    if image_format == "TIFF":
        return _decode_tiff(data, pixel_range)
    if image_format == "BMP":
        _check_bit_fields(data)
    if image_format == "PNG" and data[PNG_DEPTH_OFFSET : PNG_DEPTH_OFFSET + 1] == b"\x10":
        return apply_orientation(_decode_deep(data, pixel_range), _header(data).orientation)
    if image_format == "PPM" and _header(data).bits > 8:
        return _decode_deep(data, pixel_range)
    return _decode_by_opencv(data, cv2.IMREAD_COLOR_RGB)


def stored_values(data: bytes) -> NDArray[Any]:
    """The values of an image of more than 8 bits before they are scaled, of any shape.

    Raises:
        ValueError: if it cannot be decoded in full, with the reason.
    """
    image_format = format_of(data[:SIGNATURE_BYTES])
    if image_format is not None:
        _check_size(data, image_format)
    return _decode_by_opencv(data, cv2.IMREAD_UNCHANGED)


def as_stored(image: Image, data: bytes) -> Image:
    """The pixels of a file in the order they are stored in, from the upright image."""
    orientation = _header(data).orientation
    return apply_orientation(image, _INVERSE.get(orientation, orientation))


def scale_to_8_bits(image: NDArray[Any], pixel_range: PixelRange | None) -> Image:
    """Scale values linearly, round and clip: from `pixel_range`, or all that the type can have, to 0 to 255.

    The range of a type is that of scikit-image's `img_as_ubyte`: from 0 to the largest value of an integer type, to 1
    for floats.

    Args:
        image: any shape and number type.
        pixel_range: the values that become 0 and 255; None for the range of the type.

    Raises:
        ValueError: if floats are not finite, or below 0 or over 1 without a range that says what they mean.
    """
    is_float = np.issubdtype(image.dtype, np.floating)
    if is_float:
        low, high = float(image.min()), float(image.max())
        if not np.isfinite((low, high)).all():
            raise ValueError("some of its values are infinite or not a number; expected finite ones")
        if pixel_range is None and not 0 <= low <= high <= 1:
            raise ValueError(
                f"its values are from {low:g} to {high:g}, but floats are read as 0 (black) to 1 (white); "
                f"--data.pixel_range [{low:g},{high:g}] sets the values of black and white, the same for all images"
            )
    black, white = pixel_range or (0.0, 1.0 if is_float else float(np.iinfo(image.dtype).max))
    # In single precision where that is exact enough: of 16 bits no value is so close to a half.
    is_exact = image.dtype.itemsize <= 2 or image.dtype == np.float32
    scaled: Image = np.empty(image.shape, np.uint8)
    step = max(1, _BLOCK_VALUES // max(1, image[0].size))
    for first in range(0, len(image), step):
        values: NDArray[np.floating] = image[first : first + step].astype(np.float32 if is_exact else np.float64)
        values -= black
        values *= 255 / (white - black)
        scaled[first : first + step] = np.rint(values.clip(0, 255))
    return scaled


def _check_size(data: bytes, image_format: str) -> None:
    """Refuse what is too large before its pixels are decoded, from few bytes to any number of them.

    Raises:
        ValueError: if it has more pixels than are read, or no header.
    """
    reader = SIZE_READERS.get(image_format)
    if reader is None:
        header = _header(data)
        check_pixels(header.width, header.height, header.bits)
    else:
        with suppress(struct.error):  # of a file that ends before its size, as its decoder will say
            check_pixels(*reader(data))


def _header(data: bytes) -> ImageHeader:
    try:
        return read_header(io.BytesIO(data))
    except Exception as error:
        raise _bad_header(error) from error


def _bad_header(error: Exception) -> ValueError:
    return ValueError(f"its header cannot be read ({error})")


def _decode_jpeg(data: bytes, min_side_px: int | None) -> Image | None:
    """Decode a JPEG; None if it needs OpenCV: files that simplejpeg cannot read, and EXIF files at full size.

    Raises:
        ValueError: if the file is truncated. Both decoders would silently fill the missing rows with grey; OpenCV
            detects truncation in all other formats.
    """
    segments = list(jpeg_segments(data))
    if not segments or segments[-1][0] != END_OF_IMAGE:
        raise ValueError("truncated image")
    has_exif = any(segment_type == APP1 and data.startswith(_EXIF, start) for segment_type, start in segments)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        if not has_exif:
            side = min_side_px or 0
            return simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, strict=False)  # type: ignore[no-any-return]
    except ValueError:
        return None
    for factor, flag in _REDUCED.items():
        if min_side_px is not None and min(height, width) >= factor * min_side_px:
            return cv2.cvtColor(_decode_by_opencv(data, flag), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
    return None


def _decode_by_opencv(data: bytes, flags: int) -> Image:
    if format_of(data[:SIGNATURE_BYTES]) == "PNG":
        _check_chunks(data)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below says it in one line
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(error.err) from error
    if image is None:
        raise ValueError("truncated or damaged, or of a kind that OpenCV does not read")
    return image  # type: ignore[return-value]  # 8 bits by IMREAD_COLOR


def _decode_deep(data: bytes, pixel_range: PixelRange | None) -> Image:
    """Scaled values of more than 8 bits, which OpenCV returns right only unchanged: those of PNG are not upright."""
    image = _decode_by_opencv(data, cv2.IMREAD_UNCHANGED)
    scaled = scale_to_8_bits(image if image.ndim == 2 else image[..., 2::-1], pixel_range)  # from BGR or BGRA
    return np.repeat(scaled[..., None], 3, axis=2) if image.ndim == 2 else scaled


def _decode_tiff(data: bytes, pixel_range: PixelRange | None) -> Image:
    """The first page."""
    try:
        tags = tiff_tags(io.BytesIO(data))
        bits, number_types = max(tags.get(BITSPERSAMPLE, (1,))), tags.get(SAMPLEFORMAT, (_UNSIGNED,))
        has_straight_alpha = _STRAIGHT_ALPHA in tags.get(EXTRASAMPLES, ())
        is_planar = tags.get(PLANAR_CONFIGURATION) == _PLANES
        is_inverted = tags[PHOTOMETRIC_INTERPRETATION] == _INVERTED
    except Exception as error:
        raise _bad_header(error) from error
    if bits > 8:
        if is_planar:  # OpenCV mixes them up
            raise ValueError("TIFF with a plane for each colour and more than 8 bits, which is not read")
        image = _decode_deep(data, pixel_range)
        return 255 - image if is_inverted else image
    if set(number_types) != {_UNSIGNED}:
        raise ValueError("TIFF with signed values of 8 bits, which is not read")
    if has_straight_alpha:  # OpenCV would multiply the colours by it, as it does in no other format
        return _decode_by_pillow(data, "TIFF")
    return _decode_by_opencv(data, cv2.IMREAD_COLOR_RGB)


def _check_bit_fields(data: bytes) -> None:
    """Refuse BMP files whose colours OpenCV would mix up: it looks for bit fields in headers of 56 bytes or more."""
    with suppress(struct.error):  # of a truncated file
        header_bytes, bits, compression = struct.unpack_from("<I10xHI", data, 14)
        has_fields = (bits, compression) == (32, _BIT_FIELDS) and header_bytes in range(36, 56)
        if has_fields and struct.unpack_from("<3I", data, 54) != _BGR_FIELDS:
            raise ValueError("BMP with bit fields of another order than BGR and a short header, which is not read")


def _check_chunks(data: bytes) -> None:
    """Refuse PNG files with a part that is longer than the file: OpenCV would take that much memory, up to 2 GiB."""
    position = PNG_CHUNKS_OFFSET
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + size  # with its length, its kind and its checksum
        if position - 4 > len(data):
            raise ValueError("truncated image")
        if kind == b"IEND":
            break


def _decode_by_pillow(data: bytes, image_format: str) -> Image:
    """With the orientation applied, and without the alpha channel."""
    file = io.BytesIO(data)
    try:
        image = open_with_pillow(file, image_format)
        check_pixels(image.width, image.height)
        # Pillow itself turns the pixels of TIFF.
        return apply_orientation(np.array(image.convert("RGB")), orientation_of(image))
    except ValueError:
        raise
    except Exception as error:  # Pillow raises errors of many types for files that make no sense
        raise ValueError(str(error)) from error


def apply_orientation(image: Image, orientation: int) -> Image:
    """Stored pixels (H, W) or (H, W, C) turned upright, by an orientation of EXIF (tag 274)."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
