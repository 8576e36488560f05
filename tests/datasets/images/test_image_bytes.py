"""Any bytes end in an image or in an `UnreadableImageError` that names the file."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from datasets.images.read import Decoding, UnreadableImageError, decode_image, image_header, read_image

T = TypeVar("T")
NUM_EXAMPLES = 2000
KINDS: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "JPEG turned": {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    "PNG": {},
    "GIF": {"save_all": True},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "WEBP animated": {"save_all": True},
    "BMP": {},
    "PPM": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF jpeg": {"compression": "jpeg"},
    "AVIF": {},
}
DEEP = {
    "png 16": (".png", 257, np.uint16),
    "tiff 16": (".tiff", 257, np.uint16),
    "tiff float": (".tiff", 1 / 255, "f4"),
}


@cache
def real_file(kind: str) -> bytes:
    rows, columns = np.mgrid[0:24, 0:40]
    picture = np.stack([rows * 5, columns * 3, 255 - rows * 2 - columns], -1).astype(np.uint8)
    if kind in DEEP:
        suffix, factor, dtype = DEEP[kind]
        return cv2.imencode(suffix, (picture.astype(float) * factor).astype(dtype))[1].tobytes()
    file = io.BytesIO()
    others = {"append_images": [Pillow.fromarray(picture[::-1].copy())]} if "save_all" in KINDS[kind] else {}
    Pillow.fromarray(picture).save(file, kind.split()[0], **KINDS[kind], **others)
    return file.getvalue()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Real files of each format, cut short, with flipped bits, with bytes replaced near the start or anywhere."""
    data = bytearray(real_file(draw(st.sampled_from([*KINDS, *DEEP]))))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(data) - 1) | st.integers(0, min(len(data) - 1, 100)))
        data[position] ^= draw(st.integers(1, 255))
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return bytes(data) + draw(st.just(b"") | st.binary(max_size=20))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged EXIF data
@settings(max_examples=NUM_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200) | damaged_files(), side=st.none() | st.integers(1, 30))
def test_any_bytes_are_an_image_or_an_error_that_names_the_file(
    data: bytes, side: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(data)
    image = image_or_error(lambda: read_image(path, Decoding(min_side_px=side)), path)
    if isinstance(image, np.ndarray):
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
        assert image.size > 0
    header = image_or_error(lambda: image_header(path), path)
    assert isinstance(header, str) or min(header.width, header.height, header.bits) > 0


def image_or_error(read: Callable[[], T], path: Path) -> T | str:
    """What is read, or the checked line of the error."""
    try:
        return read()
    except UnreadableImageError as error:
        line = str(error)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_the_undamaged_files_are_read() -> None:
    for kind in (*KINDS, *DEEP):
        shape = (40, 24, 3) if "turned" in kind else (24, 40, 3)
        assert decode_image(real_file(kind), Path(kind)).shape == shape
