"""Face crops: a fixed region of aligned photos, or detection and alignment."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.images.read import UnreadableImageError
from datasets.transforms import center_crop
from datasets.types import Image, PreparedImage

Part = tuple[float, float, float, float]
WHOLE: Part = (0, 0, 1, 1)
ALIGNED_PX = 224  # side of an aligned face
MIN_SCORE = 0.7
MAX_DETECTION_SIDE_PX = 640  # larger photos are downscaled for detection
SEVERAL_FACES = "with several faces, of which the largest was taken"  # follows a count of photos
WHERE_TO_GET_IT = (
    "OpenCV's face detector YuNet (MIT licence, 230 KB) is face_detection_yunet_2023mar.onnx in "
    "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
)
# ArcFace's landmark template (at 112 px), also used by most aligned data sets: eyes, tip of the nose and corners of the
# mouth, left in the image first, as fractions of the side.
LANDMARK_TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
LANDMARK_TEMPLATE /= 112


class NoFaceError(UnreadableImageError):
    """A photo without a detected face."""


class DetectedFace(NamedTuple):
    """The largest face of a photo.

    Attributes:
        landmarks: (5, 2), in pixels of the photo, in the order of `LANDMARK_TEMPLATE`.
        box_xyxy: x0, y0, x1, y1 in pixels of the photo; parts of it may be outside.
        num_faces: in the photo.
    """

    landmarks: NDArray[np.float64]
    box_xyxy: tuple[float, float, float, float]
    num_faces: int

    def to_record(self) -> dict[str, Any]:
        """What a record of a photo says of it."""
        return {"face_box_xyxy": [round(value, 1) for value in self.box_xyxy], "num_faces": self.num_faces}


@dataclass(frozen=True)
class FaceCrop:
    """Crops the face from a photo.

    Attributes:
        part: x0, y0, x1, y1 as fractions of width and height, cropped if there is no detector.
        detector: YuNet's ONNX file, to detect the face and align its five landmarks to `LANDMARK_TEMPLATE`.
    """

    part: Part = WHOLE
    detector: str | None = None

    def __post_init__(self) -> None:
        if self.detector is not None and not Path(self.detector).is_file():
            raise ValueError(f"data.align: no such file {self.detector}; {WHERE_TO_GET_IT}")

    def __call__(self, image: Image) -> Image:
        """The face crop, of any size; if aligned (ALIGNED_PX, ALIGNED_PX, 3).

        Raises:
            NoFaceError: if no face is detected.
        """
        return self.find(image)[0]

    def find(self, image: Image) -> tuple[Image, DetectedFace | None]:
        """The face crop, and the face that was taken; None without a detector.

        Raises:
            NoFaceError: if no face is detected.
        """
        if self.detector is not None:
            face = detect_face(image, self.detector)
            return align(image, face.landmarks), face
        height, width = image.shape[:2]
        x0, y0, x1, y1 = (round(fraction * side) for fraction, side in zip(self.part, (width, height) * 2, strict=True))
        x0, y0 = min(x0, width - 1), min(y0, height - 1)
        return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)], None


def face_input(image: Image, *, face_crop: FaceCrop, input_size: int) -> Image:
    """The face crop resized to (input_size, input_size, 3).

    Raises:
        NoFaceError: if no face is detected.
    """
    return center_crop(face_crop(image), input_size, 1)


def prepare_face(image: Image, *, face_crop: FaceCrop, input_size: int) -> PreparedImage:
    """The same, with the box of the face that was taken where faces are detected.

    Raises:
        NoFaceError: if no face is detected.
    """
    crop, face = face_crop.find(image)
    pixels = center_crop(crop, input_size, 1)
    if face is None:
        return PreparedImage(pixels)
    return PreparedImage(pixels, face.to_record(), SEVERAL_FACES if face.num_faces > 1 else None)


def detect_face(image: Image, detector: str) -> DetectedFace:
    """The largest face.

    Raises:
        NoFaceError: if no face is detected.
        ValueError: if the detector cannot be loaded.
    """
    scale = min(1, MAX_DETECTION_SIDE_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    network = _load_detector(detector)
    network.setInputSize(size)
    _, faces = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if faces is None or not len(faces):
        raise NoFaceError("no face found")
    largest = np.asarray(max(faces, key=lambda face: face[2] * face[3]), np.float64) / scale
    x, y, width, height = largest[:4].tolist()
    return DetectedFace(largest[4:14].reshape(5, 2), (x, y, x + width, y + height), len(faces))


def align(image: Image, landmarks: NDArray[np.float64]) -> Image:
    """The photo warped by the similarity transform that best maps its landmarks (x, y) to the template (u, v).

    minimise over a, b, t: sum |a x - b y + t_x - u|^2 + |b x + a y + t_y - v|^2
    """
    x, y = landmarks.T
    zero, one = np.zeros(5), np.ones(5)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, t_x, t_y = np.linalg.lstsq(rows, (ALIGNED_PX * LANDMARK_TEMPLATE).T.ravel(), rcond=None)[0]
    matrix = np.array([[a, -b, t_x], [b, a, t_y]])
    return cv2.warpAffine(image, matrix, (ALIGNED_PX, ALIGNED_PX), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


@functools.cache  # one for each process: it cannot be pickled
def _load_detector(detector: str) -> cv2.FaceDetectorYN:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns about its own calls
    try:
        return cv2.FaceDetectorYN.create(detector, "", (ALIGNED_PX, ALIGNED_PX), score_threshold=MIN_SCORE)
    except cv2.error as error:
        raise ValueError(f"data.align: {detector}: OpenCV cannot read this face detector; {WHERE_TO_GET_IT}") from error
