"""Landmarks are mapped to the template; the detector gets BGR at its own scale."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.alignment import ALIGNED_PX, LANDMARK_TEMPLATE, FaceCrop, align, crop_box, face_input
from datasets.face_detection import FaceDetector, NoFaceError
from datasets.loader import Key, TrainingSet
from datasets.sources import EvaluationSet
from datasets.transforms import CropAugmentation
from datasets.types import Example, Unreadable
from tests.yunet import POINTS, picture, write_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    return FaceDetector(Path(write_detector(tmp_path_factory.mktemp("detector") / "yunet.onnx")))


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


def test_face_crops_are_aligned(detector: FaceDetector) -> None:
    crop = FaceCrop(detector=detector)
    image = picture(128, 160, (64, 40))
    np.testing.assert_array_equal(crop(image), align(image, 8 * (POINTS.astype(float) + np.array([8, 5]))))
    with pytest.raises(NoFaceError):
        crop(picture(128, 160))


def test_face_crop_is_invariant_to_position_and_size(detector: FaceDetector) -> None:
    crop = FaceCrop(detector=detector)
    small = crop(picture(160, 160, (64, 64))).astype(float)
    large = crop(picture(1280, 1280, (352, 224), side=16)).astype(float)
    assert np.abs(small - large).mean() < 2
    assert small.std((0, 1)).max() > 10  # not a uniform colour


def test_photos_without_a_face_are_named_and_left_out(detector: FaceDetector) -> None:
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


@pytest.mark.parametrize("box", [(20.0, 30.0, 40.0, 70.0), (-10.0, -4.0, 30.0, 20.0), (70.0, 60.0, 110.0, 90.0)])
def test_a_box_crop_is_a_part_of_the_photo_with_its_border_repeated(
    box: tuple[float, float, float, float], rng: np.random.Generator
) -> None:
    """As OpenCV's border, from which the crop is cut."""
    image = rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)
    crop = crop_box(image, box, 1.4)
    side = round(1.4 * max(box[2] - box[0], box[3] - box[1]))
    assert crop.shape == (side, side, 3)
    margin = 100
    padded = cv2.copyMakeBorder(image, *(margin,) * 4, cv2.BORDER_REPLICATE)
    left, top = (round((box[k] + box[k + 2] - side) / 2) + margin for k in (0, 1))
    np.testing.assert_array_equal(crop, padded[top : top + side, left : left + side])


def test_a_detected_face_is_cropped_by_its_box(detector: FaceDetector) -> None:
    image = picture(128, 160, (64, 40))
    (face,) = detector.detect_faces(image)
    crop = FaceCrop(detector=detector, kind="box", box_scale=2)
    np.testing.assert_array_equal(crop(image), crop_box(image, face.box_xyxy, 2))
    ((_, found),) = crop.find(image, "all")
    assert found is not None
    assert found.box_xyxy == face.box_xyxy
