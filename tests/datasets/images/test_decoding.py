"""Images of more than 8 bits, with transparency, of several pictures, and of formats that Pillow decodes."""

import base64
import importlib
import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from datasets.images.headers import format_of
from datasets.images.read import Decoding, UnreadableImageError, decode_image, image_header
from datasets.images.sizes import SIZE_READERS

# 64 x 48 px, written by pillow-heif with EXIF orientation 6, from the same picture as the fixture.
HEIC = base64.b64decode("""
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9jAAAA
AERAAAIAAQAAAAAB7AABAAAAAAAAAVsAAgAAAAADRwABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZl
AgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH/
/wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29s
cm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAA
AwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAYdtZGF0AAABVygBrwT441bm
qJTnk77olEZRg5rUtvKL8eDYTiTA5hX/UTf07Fn9U4Z96r6F/uMasoVfj73Q+fS8J/vOl1R/3bE/lQ+i3Jml3u6SRumLHDZksafixcc6C5cKoO5W
eS0UbqE0Dm0hpbvCq0Mdmk7DMwzq2cWMql9MYPWcoqTXmt8nzUt3BCYjtCbYDRa/aDBMrAidkhtw3fE4SU/gHEIzxzcPz30nyVoMZMgPKt1Ta3bf
rDkJJaB2+Qy5B8eAPxJENsWENLqd1aeaNOTXFQfoOUD187phTY8G2VMwZSbGfXBj9pCKzcgzHGJwbmwtZL6oOcTa7coUgbtMaaJ6qYu3/qtM8jPS
BRsjRJhb+7P+oQKzp49BAFc2eaQHR0YHQpLoymUmOSY9XouA8eTNC4Wd1HGMXMGVqQ2zamrbRMYWF/fvKjFVVfJM3aomBTkLZ7N5F0B7+rYVg9QA
AAAGRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=
""")


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, not square, and different in each corner and channel."""
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([rows * 5, columns * 3, 255 - rows * 2 - columns], -1).astype(np.uint8)


def encoded(picture: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def encoded_by_opencv(rgb: np.ndarray, suffix: str) -> bytes:
    """16-bit colours and colours of floats, which Pillow does not write."""
    success, data = cv2.imencode(suffix, np.ascontiguousarray(rgb[..., [2, 1, 0, 3][: rgb.shape[2]]]))
    assert success
    return data.tobytes()


def oriented(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.floor(255 * (values.astype(np.float64) - low) / (high - low) + 0.5), 0, 255)


def read(data: bytes, **decoding: Any) -> np.ndarray:
    return decode_image(data, Path("deep"), Decoding(**decoding))


ALL_16_BITS = np.arange(2**16, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("pixel_range", [None, (0, 65535), (0, 4095), (1000.5, 60000)])
def test_sixteen_bits_are_scaled_linearly_and_rounded(kind: str, pixel_range: Any) -> None:
    """Every value there is; without a range 65535 is white."""
    big_endian = ALL_16_BITS.astype(">u2").tobytes()
    data = b"P5 256 256 65535\n" + big_endian if kind == "PPM" else encoded(ALL_16_BITS, kind)
    image = read(data, pixel_range=pixel_range)
    assert image.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], scaled(ALL_16_BITS, *(pixel_range or (0, 65535))))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("num_channels", [3, 4])
def test_the_channels_of_deep_colours_stay_in_order(suffix: str, num_channels: int, rng: np.random.Generator) -> None:
    colours = rng.integers(0, 65536, (20, 30, num_channels), dtype=np.uint16)
    image = read(encoded_by_opencv(colours, suffix), pixel_range=(100, 50000))
    np.testing.assert_array_equal(image, scaled(colours[..., :3], 100, 50000))


def test_eight_bits_that_are_stored_as_sixteen_come_back(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(read(encoded_by_opencv(picture.astype(np.uint16) * 257, ".png")), picture)


def test_a_pixel_range_does_not_act_on_eight_bits(picture: np.ndarray) -> None:
    for kind in ("PNG", "TIFF", "BMP", "JPEG"):
        data = encoded(picture, kind)
        np.testing.assert_array_equal(read(data, pixel_range=(0, 4095)), read(data))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_floats_from_0_to_1_are_scaled(dtype: type, num_channels: int, rng: np.random.Generator) -> None:
    values = rng.random((20, 30, num_channels)).astype(dtype)
    values[0, :2] = [[0] * num_channels, [1] * num_channels]
    data = encoded_by_opencv(values if num_channels == 3 else np.repeat(values, 3, 2), ".tiff")
    expected = scaled(values, 0, 1)
    assert (np.abs(read(data) - expected) > 0).mean() < 1e-3  # a half may be rounded either way
    np.testing.assert_allclose(read(data), np.broadcast_to(expected, (20, 30, 3)), atol=1)


@pytest.mark.parametrize(("low", "high"), [(-0.01, 1), (0, 1.01), (-1000, 3000), (0, 255)])
def test_floats_in_other_units_need_a_range(low: float, high: float) -> None:
    values = np.linspace(low, high, 600, dtype=np.float32).reshape(20, 30)
    with pytest.raises(
        UnreadableImageError, match=rf"deep: its values are from {low:g} to {high:g}, .*data.pixel_range"
    ):
        read(encoded(values, "TIFF"))
    image = read(encoded(values, "TIFF"), pixel_range=(low, high))
    assert (image[0, 0].tolist(), image[-1, -1].tolist()) == ([0] * 3, [255] * 3)
    np.testing.assert_allclose(image[..., 0], scaled(values, low, high), atol=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pixel_range", [None, (0, 1)])
def test_an_image_with_values_that_are_no_numbers_is_unreadable(value: float, pixel_range: Any) -> None:
    values = np.full((20, 30), 0.5, np.float32)
    values[3, 4] = value
    with pytest.raises(UnreadableImageError, match="deep: some of its values are infinite or not a number"):
        read(encoded(values, "TIFF"), pixel_range=pixel_range)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_images_are_upright(kind: str, orientation: int) -> None:
    values = np.arange(0, 60000, 100, dtype=np.uint16).reshape(20, 30)
    data = encoded(values, kind, exif=oriented(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read(data)[..., 0], scaled(expected, 0, 65535))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_images_of_all_formats_are_upright(kind: str, orientation: int, picture: np.ndarray) -> None:
    data = encoded(picture, kind, exif=oriented(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read(data), expected)
    stored = decode_image(data, Path("a"), expected_hw=(48, 64))
    assert np.abs(stored.astype(int) - picture).mean() < 4 or orientation < 5
    assert stored.shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF"])
def test_transparent_pixels_have_their_stored_colours(kind: str, picture: np.ndarray) -> None:
    """As by Pillow's `convert("RGB")`, in all formats."""
    alpha = np.where(np.arange(64) > 31, 255, 0) * np.ones((48, 1))
    rgba = np.dstack([picture, alpha]).astype(np.uint8)
    data = encoded(rgba, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read(data), expected)
    if kind != "GIF":  # which stores a palette
        np.testing.assert_array_equal(expected, picture)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_pictures_the_first_is_read(kind: str, picture: np.ndarray) -> None:
    others = [Pillow.fromarray(np.roll(picture, 7 * shift, 1)) for shift in (1, 2)]
    data = encoded(picture, kind, save_all=True, append_images=others)
    assert getattr(Pillow.open(io.BytesIO(data)), "n_frames", 0) == 3
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int)
    np.testing.assert_allclose(read(data), expected, atol=1)
    assert np.abs(read(data).astype(int) - picture).mean() < 12


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    (tmp_path / "a.heic").write_bytes(HEIC)
    line = r"a\.heic: this is HEIC; `pip install '\.\[heif\]'` reads it, or convert it to JPEG$"
    with pytest.raises(UnreadableImageError, match=line):
        decode_image(HEIC, Path("a.heic"))
    with pytest.raises(UnreadableImageError, match=line):
        image_header(tmp_path / "a.heic")


def test_heic_is_read_upright(picture: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    image = decode_image(HEIC, Path("a.heic"))
    assert image.shape == (64, 48, 3)
    assert np.abs(image.astype(int) - np.rot90(picture, -1)).max() < 12
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert image_header(tmp_path / "a.heic")[:4] == (48, 64, 8, "HEIC")
    for length in range(0, len(HEIC), 5):
        with pytest.raises(UnreadableImageError, match=r"a\.heic: "):
            decode_image(HEIC[:length], Path("a.heic"))


def test_the_format_is_told_by_the_bytes(picture: np.ndarray) -> None:
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF"):
        assert format_of(encoded(picture, kind)[:64]) == kind
    assert format_of(HEIC[:64]) == "HEIC"
    for other in (b"", b"hello", b"\x00\x00\x00\x18ftypmp42", b"%PDF-1.4", b"PK\x03\x04", b"P7\n", b"Page"):
        assert format_of(other) is None


NUMBER_TYPES = (np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64)


@pytest.mark.parametrize("dtype", NUMBER_TYPES)
@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_the_kinds_of_tiff_that_tifffile_writes(dtype: Any, num_channels: int, rng: np.random.Generator) -> None:
    """Byte orders, BigTIFF, compression and white as 0; without a range values below 0 are black."""
    is_integer = np.issubdtype(dtype, np.integer)
    shape = (20, 30, num_channels)[: 2 if num_channels == 1 else 3]
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if is_integer else (0, 1)
    values = rng.integers(low, high, shape, dtype, endpoint=True) if is_integer else rng.random(shape).astype(dtype)
    expected = scaled(values.reshape(20, 30, -1)[..., :3], 0, high)
    alpha = {"extrasamples": ["unassalpha"]} if num_channels == 4 else {}
    for options in ({}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": "<"}, {"compression": "deflate"}):
        for photometric in ["rgb"] if num_channels > 1 else ["minisblack", "miniswhite"]:
            file = io.BytesIO()
            tifffile.imwrite(file, values, photometric=photometric, **options, **alpha)
            upright = 255 - expected if photometric == "miniswhite" else expected
            np.testing.assert_allclose(read(file.getvalue()), np.broadcast_to(upright, (20, 30, 3)), atol=1)


@pytest.mark.parametrize(
    ("dtype", "options", "line"),
    [
        (np.uint16, {"planarconfig": "separate", "photometric": "rgb"}, "a plane for each colour and more than 8 bits"),
        (np.int8, {"photometric": "minisblack"}, "signed values of 8 bits"),
        (np.uint16, {"bigtiff": True, "byteorder": ">"}, "BigTIFF with big-endian numbers"),
    ],
)
def test_rare_kinds_of_tiff_are_refused(dtype: Any, options: dict[str, Any], line: str) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 20, 30) if "planarconfig" in options else (20, 30), dtype), **options)
    with pytest.raises(UnreadableImageError, match=f"deep: .*{line}, which is not read"):
        read(file.getvalue())


def bmp(rgb: np.ndarray, fields: tuple[int, int, int], header_bytes: int) -> bytes:
    """A BMP file of 32 bits, rows from top to bottom."""
    pixels = sum(rgb[..., c].astype("<u4") * (field & -field) for c, field in enumerate(fields)).tobytes()
    height, width = rgb.shape[:2]
    about = struct.pack("<IiiHHII16x", header_bytes, width, -height, 1, 32, 3, len(pixels)) + struct.pack(
        "<3I", *fields
    )
    about += bytes(max(0, header_bytes - len(about)))
    return struct.pack("<2sIII", b"BM", 14 + len(about) + len(pixels), 0, 14 + len(about)) + about + pixels


def test_bmp_with_bit_fields_that_pillow_refuses(picture: np.ndarray) -> None:
    """OpenCV overlooks the fields in a short header, and would take red for blue."""
    np.testing.assert_array_equal(read(bmp(picture, (0xFF, 0xFF00, 0xFF0000), 56)), picture)
    np.testing.assert_array_equal(read(bmp(picture, (0xFF0000, 0xFF00, 0xFF), 40)), picture)
    with pytest.raises(UnreadableImageError, match="deep: BMP with bit fields of another order than BGR"):
        read(bmp(picture, (0xFF, 0xFF00, 0xFF0000), 40))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": oriented(1)}),  # the extended format
    ],
)
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 700, 3), (259, 2, 3)])
def test_sizes_in_bytes_are_those_that_pillow_reads(kind: str, options: Any, shape: tuple[int, ...]) -> None:
    data = encoded(np.zeros(shape, np.uint8), kind, **options)
    assert SIZE_READERS[kind](data) == (*Pillow.open(io.BytesIO(data)).size, 8)


def test_sizes_that_are_too_large_are_refused_unread() -> None:
    """16384 pixels squared are read, not a row more."""
    for width, height, is_read in ((16384, 16384, True), (16384, 16385, False)):
        extended = struct.pack("<HBHB", width - 1, 0, height - 1, 0)
        for start in (
            b"BM" + struct.pack("<12xIii", 40, width, -height),
            b"BM" + struct.pack("<12xIHH", 12, width, height),
            b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + extended,
        ):
            reason = "truncated or damaged" if is_read else "16384 x 16385 pixels; up to 268 million are read"
            with pytest.raises(UnreadableImageError, match=reason):
                read(start)
