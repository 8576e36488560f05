"""All faces of a photo, in its pixels; the detector gets BGR at its own scale, from any thread."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.face_detection import FaceDetector, NoFaceError
from datasets.images.read import UnreadableImageError, read_image
from tests.yunet import POINTS, picture, write_detector

SIDE = 8 * np.exp(1.5)  # of the fake detector's box, around the corner of the red cell


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    return FaceDetector(Path(write_detector(tmp_path_factory.mktemp("detector") / "yunet.onnx")))


def test_box_and_landmarks_are_in_pixels_of_the_photo(detector: FaceDetector) -> None:
    (small,) = detector.detect_faces(picture(128, 160, (64, 40)))
    np.testing.assert_allclose(small.landmarks, 8 * (POINTS + np.array([8, 5])), atol=1e-3)
    np.testing.assert_allclose(small.box_xyxy, [64 - SIDE / 2, 40 - SIDE / 2, 64 + SIDE / 2, 40 + SIDE / 2], atol=1e-3)
    (large,) = detector.detect_faces(picture(1024, 1280, (512, 320), side=16))  # downscaled by two for detection
    np.testing.assert_allclose(large.landmarks, 16 * (POINTS + np.array([32, 20])), atol=1e-3)
    np.testing.assert_allclose(large.box_xyxy, [512 - SIDE, 320 - SIDE, 512 + SIDE, 320 + SIDE], atol=1e-3)
    assert small.score == pytest.approx(1, abs=1e-3)
    assert small.to_record().keys() == {"face_box_xyxy", "landmarks", "score"}


def test_which_faces_are_wanted(detector: FaceDetector) -> None:
    group, alone, wall = (
        picture(160, 240, *corners) for corners in (((40, 40), (120, 80), (184, 40)), ((40, 40),), ())
    )
    assert [len(detector.find(group, which)) for which in ("all", "largest")] == [3, 1]
    assert len(detector.find(alone, "one")) == 1
    with pytest.raises(NoFaceError, match=r"^3 faces found, expected exactly one$"):
        detector.find(group, "one")
    for which in ("all", "largest", "one"):
        with pytest.raises(NoFaceError, match=r"^no face found$"):
            detector.find(wall, which)
    assert issubclass(NoFaceError, UnreadableImageError)


def test_threads_and_copies_find_the_same(detector: FaceDetector) -> None:
    pictures = [picture(96 + 8 * k, 160 + 8 * (k % 5), (8 * (2 + k % 7), 8 * (3 + k % 4))) for k in range(60)]
    expected = [detector.detect_faces(image)[0].box_xyxy for image in pictures]
    copy = pickle.loads(pickle.dumps(detector))
    for one in (detector, copy):
        with ThreadPoolExecutor(4) as threads:
            assert [faces[0].box_xyxy for faces in threads.map(one.detect_faces, pictures)] == expected


def test_files_that_are_no_detector_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"yunet.onnx: no such file; expected YuNet's ONNX file$"):
        FaceDetector(tmp_path / "yunet.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    whole = Path(write_detector(tmp_path / "whole.onnx")).read_bytes()
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    for name in ("text.onnx", "half.onnx"):
        with pytest.raises(ValueError, match=f"{name}: not a face detector that OpenCV can read"):
            FaceDetector(tmp_path / name)


@pytest.mark.data
def test_another_network_is_no_detector(shared: Path) -> None:
    with pytest.raises(ValueError, match=r"mobilefacenet.onnx: not a face detector that OpenCV can read"):
        FaceDetector(shared / "weights" / "peers" / "mobilefacenet.onnx")


@pytest.mark.data
def test_a_face_is_found_in_every_photo_of_lfw_and_the_largest_comes_first(shared: Path) -> None:
    """In 100 of 100, and in the middle, as LFW's photos are made; OpenCV's own call finds the same boxes."""
    path = shared / "weights" / "tasks" / "face_detection_yunet.onnx"
    detector = FaceDetector(path)
    photos = sorted((shared / "data" / "faces" / "lfw").glob("*/*.jpg"))
    assert len(photos) == 100
    for photo in photos:
        image = read_image(photo)
        faces = detector.detect_faces(image)
        x0, y0, x1, y1 = faces[0].box_xyxy
        assert x0 < 125 < x1
        assert y0 < 125 < y1
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (face.box_xyxy for face in faces)]
        assert areas == sorted(areas, reverse=True)
    reference = cv2.FaceDetectorYN.create(str(path), "", image.shape[1::-1], 0.7, 0.3, 5000)
    _, expected = reference.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert len(expected) == len(faces)
    assert sorted(row[0] for row in expected.tolist()) == pytest.approx(sorted(face.box_xyxy[0] for face in faces))
