"""Landmarks are mapped to the template; the detector gets BGR at its own scale."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from datasets.alignment import ALIGNED_PX, LANDMARK_TEMPLATE, FaceCrop, NoFaceError, align, detect_face, face_input
from datasets.images.read import UnreadableImageError
from datasets.loader import EvaluationSet, Key, TrainingSet, Unreadable
from datasets.transforms import CropAugmentation
from datasets.types import Example
from tests.yunet import POINTS, picture, write_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_detector(tmp_path_factory.mktemp("detector") / "yunet.onnx")


def test_landmarks_related_by_a_similarity_are_aligned_exactly(rng: np.random.Generator) -> None:
    """So a rotated, scaled and shifted photo gives the same crop."""
    image = rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    angle, scale, shift = 0.4, 0.5, np.array([180, 90])
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = ALIGNED_PX * LANDMARK_TEMPLATE @ rotation.T + shift
    image[:] = 0
    image[:, :, 1] = np.linspace(0, 255, 400)[None]
    aligned = align(image, landmarks)
    assert aligned.shape == (ALIGNED_PX, ALIGNED_PX, 3)
    for x, y in ((30, 40), (112, 112), (200, 150)):
        source = rotation @ (x, y) + shift
        assert aligned[y, x, 1] == pytest.approx(source[0] / 399 * 255, abs=1.5)


def test_template_is_a_face() -> None:
    """Eyes above the nose above the mouth, left landmarks on the left, all in the middle of the image."""
    left_eye, right_eye, nose, left_mouth, right_mouth = LANDMARK_TEMPLATE
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert LANDMARK_TEMPLATE.mean(0) == pytest.approx([0.5, 0.64], abs=0.02)


def test_landmarks_are_in_pixels_of_the_photo(detector: str) -> None:
    found = detect_face(picture(128, 160, (64, 40)), detector)
    np.testing.assert_allclose(found.landmarks, 8 * (POINTS + np.array([8, 5])), atol=1e-3)
    large = detect_face(picture(1024, 1280, (512, 320), side=16), detector)  # downscaled by two for detection
    np.testing.assert_allclose(large.landmarks, 16 * (POINTS + np.array([32, 20])), atol=1e-3)


def test_the_box_of_the_face_is_in_pixels_of_the_photo(detector: str) -> None:
    """The fake detector's box is e^1.5 cells wide and high, around the corner of the red cell."""
    side = 8 * np.exp(1.5)
    found = detect_face(picture(128, 160, (64, 40)), detector)
    np.testing.assert_allclose(found.box_xyxy, [64 - side / 2, 40 - side / 2, 64 + side / 2, 40 + side / 2], atol=1e-3)
    large = detect_face(picture(1024, 1280, (512, 320), side=16), detector)
    np.testing.assert_allclose(large.box_xyxy, [512 - side, 320 - side, 512 + side, 320 + side], atol=1e-3)
    assert found.num_faces == large.num_faces == 1
    group = detect_face(picture(160, 240, (40, 40), (120, 80), (184, 40)), detector)
    assert group.num_faces == 3
    assert group.to_record()["num_faces"] == 3


def test_face_crops_are_aligned(detector: str) -> None:
    crop = FaceCrop(detector=detector)
    image = picture(128, 160, (64, 40))
    np.testing.assert_array_equal(crop(image), align(image, 8 * (POINTS.astype(float) + np.array([8, 5]))))
    with pytest.raises(NoFaceError):
        crop(picture(128, 160))


def test_face_crop_is_invariant_to_position_and_size(detector: str) -> None:
    crop = FaceCrop(detector=detector)
    small = crop(picture(160, 160, (64, 64))).astype(float)
    large = crop(picture(1280, 1280, (352, 224), side=16)).astype(float)
    assert np.abs(small - large).mean() < 2
    assert small.std((0, 1)).max() > 10  # not a uniform colour


def test_photos_without_a_face_are_named_and_left_out(detector: str) -> None:
    class Photos:
        warnings: list[str] = []  # noqa: RUF012

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Example[int]:
            return Example(picture(128, 160), 0, "wall.jpg")

        def id(self, index: int) -> str:
            return "wall.jpg"

        def truth(self, index: int) -> int:
            return 0

    face_crop = FaceCrop(detector=detector)
    augmentation = CropAugmentation(64, min_crop_area=1, randaugment_ops=0, pre_crop=face_crop)
    left_out = Unreadable("wall.jpg: no face found", is_empty=True)
    assert TrainingSet(Photos(), augmentation, seed=0)[Key(0, 0)] == left_out
    assert EvaluationSet(Photos(), partial(face_input, face_crop=face_crop, input_size=64))[0] == left_out


def test_a_fixed_part_is_a_fraction_of_the_photo() -> None:
    image = np.arange(20 * 10 * 3, dtype=np.uint8).reshape(20, 10, 3)
    np.testing.assert_array_equal(FaceCrop((0.2, 0.5, 0.8, 1))(image), image[10:20, 2:8])
    np.testing.assert_array_equal(FaceCrop()(image), image)
    assert FaceCrop((0.99, 0.99, 1, 1))(image).shape == (1, 1, 3)


def test_error_of_a_missing_or_invalid_detector_has_its_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"align: no such file .*YuNet .*github.com/opencv/opencv_zoo"):
        FaceCrop(detector=str(tmp_path / "yunet.onnx"))
    (tmp_path / "no.onnx").write_text("not a network")
    with pytest.raises(ValueError, match=r"OpenCV cannot read this face detector; OpenCV's face detector YuNet"):
        FaceCrop(detector=str(tmp_path / "no.onnx"))(picture(64, 64))
    assert issubclass(NoFaceError, UnreadableImageError)
