"""What cameras, scanners and broken disks make of image files; written by Pillow, read by us."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from datasets.images import UnreadableImageError, read_image, write_image


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
    exif[0x0112] = 6  # stored lying on its side: to be turned by 90 degrees clockwise
    Pillow.fromarray(picture).save(path, exif=exif, quality=98)
    return path


def test_exif_orientation_is_applied(tmp_path: Path, picture: np.ndarray) -> None:
    image = read_image(exif_rotated(tmp_path / "turned.jpg", picture))
    assert image.shape == (64, 48, 3)
    assert np.abs(image.astype(int) - np.rot90(picture, -1)).mean() < 4


def test_pixels_stay_as_stored_where_the_annotations_are_for_those(tmp_path: Path, picture: np.ndarray) -> None:
    path = exif_rotated(tmp_path / "turned.jpg", picture)
    assert read_image(path, expected_hw=(48, 64)).shape == (48, 64, 3)
    assert read_image(path, expected_hw=(64, 48)).shape == (64, 48, 3)
    with pytest.raises(UnreadableImageError, match=r"48 x 64 pixels, but its annotations are for 10 x 20"):
        read_image(path, expected_hw=(20, 10))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_named(tmp_path: Path, rng: np.random.Generator, suffix: str, share: float) -> None:
    whole = tmp_path / f"whole{suffix}"
    Pillow.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    read_image(whole)
    with pytest.raises(UnreadableImageError, match="cut"):
        read_image(cut)


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("text.jpg", "empty.jpg", "none.jpg"):
        with pytest.raises(UnreadableImageError, match=name):
            read_image(tmp_path / name)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_may_be_decoded_smaller(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    """With and without EXIF, which take different ways; never below the size that was asked for."""
    large = np.asarray(Pillow.fromarray(picture).resize((1280, 960), Pillow.Resampling.BILINEAR))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(large).save(tmp_path / "plain.jpg", quality=95)
    Pillow.fromarray(large).save(tmp_path / "exif.jpg", quality=95, exif=exif)
    for name in ("plain.jpg", "exif.jpg"):
        whole = read_image(tmp_path / name)
        assert whole.shape[:2] == ((1280, 960) if (name, orientation) == ("exif.jpg", 6) else (960, 1280))
        small = read_image(tmp_path / name, min_side_px=200)
        assert 200 <= min(small.shape[:2]) < 500
        expected = Pillow.fromarray(whole).resize(small.shape[1::-1], Pillow.Resampling.BOX)
        np.testing.assert_allclose(small.astype(int), np.asarray(expected).astype(int), atol=6)
        assert read_image(tmp_path / name, min_side_px=2000).shape == whole.shape


def test_both_jpeg_decoders_give_the_same_pixels(tmp_path: Path, picture: np.ndarray) -> None:
    Pillow.fromarray(picture).save(tmp_path / "plain.jpg", quality=80)
    exif = Pillow.Exif()
    exif[0x0131] = "a camera"
    Pillow.fromarray(picture).save(tmp_path / "exif.jpg", quality=80, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "plain.jpg"), read_image(tmp_path / "exif.jpg"))
