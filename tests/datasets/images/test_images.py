"""Image files of all kinds, intact and damaged: written by Pillow, read by `datasets.images.read`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps
from PIL.PngImagePlugin import PngInfo

from datasets.images.read import (
    IMAGE_SUFFIXES,
    Decoding,
    UnreadableImageError,
    decode_image,
    image_header,
    image_headers,
    read_image,
    write_image,
)


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, not square, and different in each corner and channel."""
    rows, columns = np.mgrid[0:48, 0:64]
    return np.stack([rows * 5, columns * 3, 255 - rows * 2 - columns], -1).astype(np.uint8)


def test_rgb_stays_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    Pillow.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


def test_write_is_the_inverse_of_read(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"grey{suffix}"
    Pillow.fromarray(picture[..., 0]).save(path)
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    np.testing.assert_allclose(image[..., 0].astype(int), picture[..., 0], atol=4)


def test_cmyk_becomes_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    Pillow.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    image = read_image(tmp_path / "cmyk.jpg")
    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - picture).mean() < 6


def test_sixteen_bits_become_eight(tmp_path: Path, picture: np.ndarray) -> None:
    grey = picture[..., 0].astype(np.uint16) * 257
    Pillow.fromarray(grey).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[..., 1].astype(int), picture[..., 0], atol=1)


def test_palette_and_alpha_become_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    Pillow.fromarray(picture).convert("P").save(tmp_path / "palette.png")
    Pillow.fromarray(picture).convert("RGBA").save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "palette.png").shape == (48, 64, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), picture)


def exif_rotated(path: Path, picture: np.ndarray) -> Path:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees clockwise
    Pillow.fromarray(picture).save(path, exif=exif, quality=98)
    return path


def test_exif_orientation_is_applied(tmp_path: Path, picture: np.ndarray) -> None:
    image = read_image(exif_rotated(tmp_path / "turned.jpg", picture))
    assert image.shape == (64, 48, 3)
    assert np.abs(image.astype(int) - np.rot90(picture, -1)).mean() < 4


def test_orientation_is_ignored_if_the_annotations_are_for_the_stored_pixels(
    tmp_path: Path, picture: np.ndarray
) -> None:
    path = exif_rotated(tmp_path / "turned.jpg", picture)
    assert read_image(path, expected_hw=(48, 64)).shape == (48, 64, 3)
    assert read_image(path, expected_hw=(64, 48)).shape == (64, 48, 3)
    with pytest.raises(UnreadableImageError, match=r"48 x 64 pixels, but its annotations are for 10 x 20"):
        read_image(path, expected_hw=(20, 10))


def encoded(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def segment(segment_type: int, content: bytes) -> bytes:
    """A segment of a JPEG file (ITU-T T.81): FF, its type, its length including the length's own two bytes."""
    return bytes([0xFF, segment_type]) + (len(content) + 2).to_bytes(2, "big") + content


def oriented(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def jpeg(variant: str, picture: np.ndarray) -> bytes:
    """Intact JPEG files that are easily mistaken for truncated ones, and the other way round when cut."""
    plain = encoded(picture, "JPEG")
    progressive = encoded(picture, "JPEG", progressive=True)
    assert progressive.count(b"\xff\xda") > 3  # scans
    second_scan = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    comment = segment(0xFE, b"this is no end of an image: \xff\xd9")
    return {
        "baseline": plain,
        "progressive": progressive,
        "restarts": encoded(picture, "JPEG", restart_marker_blocks=1),
        "thumbnail": plain[:2] + segment(0xE1, oriented(1) + encoded(picture[:8, :8], "JPEG")) + plain[2:],
        "comment between scans": progressive[:second_scan] + comment + progressive[second_scan:],
        "fill bytes": plain[:2] + b"\xff\xff" + comment + b"\xff\xff" + plain[2:-2] + b"\xff\xff\xff" + plain[-2:],
    }[variant]


JPEG_VARIANTS = ["baseline", "progressive", "restarts", "thumbnail", "comment between scans", "fill bytes"]
OTHER_FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "WEBP": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF jpeg": {"compression": "jpeg"},
}


@pytest.mark.parametrize("variant", JPEG_VARIANTS)
def test_a_truncated_jpeg_is_unreadable(variant: str, rng: np.random.Generator) -> None:
    """For every length, and with zeros after the end, as in a file preallocated before it was written."""
    data = jpeg(variant, rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    decode_image(data, Path("whole.jpg"))
    for length in range(3, len(data)):
        for part in (data[:length], data[:length] + bytes(1000)):
            with pytest.raises(UnreadableImageError, match=r"cut\.jpg: truncated image"):
                decode_image(part, Path("cut.jpg"))


@pytest.mark.parametrize("kind", OTHER_FORMATS)
def test_a_truncated_file_of_another_format_is_unreadable(kind: str, rng: np.random.Generator) -> None:
    data = encoded(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8), kind.split()[0], **OTHER_FORMATS[kind])
    decode_image(data, Path("whole"))
    for length in range(0, len(data), 7):
        with pytest.raises(UnreadableImageError, match="cut"):
            decode_image(data[:length], Path("cut"))
    with pytest.raises(UnreadableImageError, match="cut"):
        decode_image(data[:-1], Path("cut"))


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"eXIf"])
def test_no_room_is_made_for_a_part_that_is_longer_than_its_file(kind: bytes, picture: np.ndarray) -> None:
    """OpenCV would take 1 GiB."""
    data = encoded(picture, "PNG")
    part = (2**30).to_bytes(4, "big") + kind
    with pytest.raises(UnreadableImageError, match=r"long\.png: truncated image$"):
        decode_image(data[:33] + part + data[33:], Path("long.png"))


@pytest.mark.parametrize("variant", [*JPEG_VARIANTS, *OTHER_FORMATS])
def test_bytes_after_the_end_of_the_image_change_nothing(
    variant: str, picture: np.ndarray, rng: np.random.Generator
) -> None:
    kind = variant.split()[0]
    data = encoded(picture, kind, **OTHER_FORMATS[variant]) if variant in OTHER_FORMATS else jpeg(variant, picture)
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int)
    whole = decode_image(data, Path("whole"))
    np.testing.assert_allclose(whole, expected, atol=1 if kind == "WEBP" else 0)
    video = b"\x00\x00\x00\x18ftypmp42" + rng.bytes(300_000)
    for tail in (
        video,
        b"begins a scan: \xff\xda",
        b"IDAT",
        bytes(4096),
        encoded(np.flip(picture), "JPEG"),  # the second picture of a stereo or HDR photo
        encoded(np.flip(picture), "PNG")[:-20],
    ):
        np.testing.assert_array_equal(decode_image(data + tail, Path("longer")), whole)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kinds_before", [[], [0xE0, 0xE1], [0xE2], [0xE2] * 5, [0xFE, 0xED]])
def test_exif_orientation_is_applied_wherever_the_exif_is(
    kinds_before: list[int], orientation: int, picture: np.ndarray
) -> None:
    """After XMP (the same segment type as EXIF), a colour profile of 30 or 150 KB, a comment, Photoshop's data."""
    data = encoded(picture, "JPEG")
    before = b"".join(segment(kind, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 30_000) for kind in kinds_before)
    data = data[:2] + before + segment(0xE1, oriented(orientation)) + data[2:]
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_image(data, Path("a.jpg")), expected)
    turned = encoded(np.flip(picture), "JPEG", exif=oriented(9 - orientation))
    np.testing.assert_array_equal(decode_image(data + turned, Path("a.jpg")), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_in_other_formats(kind: str, picture: np.ndarray) -> None:
    data = encoded(picture, kind, exif=oriented(6))
    assert decode_image(data, Path("a")).shape == (64, 48, 3)


def test_errors_of_files_that_are_not_images_have_the_file_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("text.jpg", "empty.jpg", "none.jpg"):
        with pytest.raises(UnreadableImageError, match=name):
            read_image(tmp_path / name)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_may_be_decoded_smaller(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    """With and without EXIF, which use different decoders; never below `min_side_px`."""
    large = np.asarray(Pillow.fromarray(picture).resize((1280, 960), Pillow.Resampling.BILINEAR))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(large).save(tmp_path / "plain.jpg", quality=95)
    Pillow.fromarray(large).save(tmp_path / "exif.jpg", quality=95, exif=exif)
    for name in ("plain.jpg", "exif.jpg"):
        whole = read_image(tmp_path / name)
        assert whole.shape[:2] == ((1280, 960) if (name, orientation) == ("exif.jpg", 6) else (960, 1280))
        small = read_image(tmp_path / name, Decoding(min_side_px=200))
        assert 200 <= min(small.shape[:2]) < 500
        expected = Pillow.fromarray(whole).resize(small.shape[1::-1], Pillow.Resampling.BOX)
        np.testing.assert_allclose(small.astype(int), np.asarray(expected).astype(int), atol=6)
        assert read_image(tmp_path / name, Decoding(min_side_px=2000)).shape == whole.shape


def test_both_jpeg_decoders_give_the_same_pixels(tmp_path: Path, picture: np.ndarray) -> None:
    Pillow.fromarray(picture).save(tmp_path / "plain.jpg", quality=80)
    exif = Pillow.Exif()
    exif[0x0131] = "a camera"
    Pillow.fromarray(picture).save(tmp_path / "exif.jpg", quality=80, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "plain.jpg"), read_image(tmp_path / "exif.jpg"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_header_has_the_size_of_the_upright_image(
    kind: str, orientation: int, tmp_path: Path, picture: np.ndarray
) -> None:
    path = tmp_path / "a"
    path.write_bytes(encoded(picture, kind, exif=oriented(orientation)))
    header = image_header(path)
    assert (header.height, header.width) == read_image(path).shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    assert (header.bits, header.format, header.orientation) == (8, kind, orientation)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_header_has_the_depth(kind: str, tmp_path: Path, picture: np.ndarray) -> None:
    for dtype, bits in ((np.uint8, 8), (np.uint16, 16)):
        (tmp_path / "a").write_bytes(encoded(picture[..., 0].astype(dtype), kind))
        assert image_header(tmp_path / "a").bits == bits


@pytest.mark.parametrize("variant", JPEG_VARIANTS)
def test_the_header_of_a_truncated_jpeg_is_unreadable(variant: str, tmp_path: Path, rng: np.random.Generator) -> None:
    data, path = jpeg(variant, rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)), tmp_path / "cut.jpg"
    for whole in (data, data + bytes(1000), data + b"begins a scan: \xff\xda"):
        path.write_bytes(whole)
        assert image_header(path)[:4] == (40, 24, 8, "JPEG")
    for length in range(0, len(data), 5):
        path.write_bytes(data[:length])
        with pytest.raises(UnreadableImageError, match=r"cut\.jpg: "):
            image_header(path)


def test_headers_come_in_order_with_the_errors_of_files_that_have_none(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:04}.png" for number in range(1000)]
    for number, path in enumerate(paths):
        if number % 7 == 1:
            path.write_text("hello")
        elif number % 7 != 2:  # those are missing
            path.write_bytes(encoded(np.zeros((2, number + 1, 3), np.uint8), "PNG"))
    for number, result in enumerate(image_headers(paths)):
        if number % 7 in (1, 2):
            assert isinstance(result, UnreadableImageError)
            reason = "not an image in a format that is read" if number % 7 == 1 else "No such file or directory"
            assert str(result) == f"{paths[number]}: {reason}"
        else:
            assert isinstance(result, tuple)
            assert (result.width, result.height) == (number + 1, 2)
    assert number == 999


def test_a_text_too_long_for_pillow_does_not_make_an_image_unreadable(tmp_path: Path, picture: np.ndarray) -> None:
    texts = PngInfo()
    texts.add_text("workflow", "x" * 3_000_000, zip=True)
    (tmp_path / "a.png").write_bytes(encoded(picture, "PNG", pnginfo=texts))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    assert image_header(tmp_path / "a.png")[:3] == (64, 48, 8)


@pytest.mark.data
def test_headers_agree_with_real_images(shared: Path) -> None:
    """On every hundredth; on all 17,001 it was run once."""
    paths = sorted(path for path in (shared / "data").rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)[::100]
    assert len(paths) > 100
    for path, header in zip(paths, image_headers(paths), strict=True):
        assert isinstance(header, tuple)
        assert (header.height, header.width) == read_image(path).shape[:2]
