"""The part of a photo that shows the face: a fixed part of pictures that are aligned already, or found and aligned."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.images import UnreadableImageError
from datasets.transforms import center_crop
from datasets.types import Image

Part = tuple[float, float, float, float]
WHOLE: Part = (0, 0, 1, 1)
ALIGNED_PX = 224  # side of an aligned face
MIN_SCORE = 0.7
MAX_DETECTED_SIDE_PX = 640  # larger photos are looked at so much smaller
WHERE_TO_GET_IT = (
    "OpenCV's face detector YuNet (MIT licence, 230 KB) is face_detection_yunet_2023mar.onnx in "
    "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
)
# Where eyes, tip of the nose and corners of the mouth go, in shares of the side; left is left in the picture. These are
# the places that ArcFace's networks and most sets of aligned faces have (at 112 px).
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
TEMPLATE /= 112


class NoFaceError(UnreadableImageError):
    """A photo without a face that the detector sees."""


@dataclass(frozen=True)
class FaceCrop:
    """Cuts the face out of a photo.

    Attributes:
        part: x0, y0, x1, y1 in shares of width and height, cut out of photos that are not aligned here.
        detector: YuNet's ONNX file; with it the face is found and turned so that its five points are at `TEMPLATE`.
    """

    part: Part = WHOLE
    detector: str | None = None

    def __post_init__(self) -> None:
        if self.detector is not None and not Path(self.detector).is_file():
            raise ValueError(f"data.align: there is no file {self.detector}; {WHERE_TO_GET_IT}")

    def __call__(self, image: Image) -> Image:
        """The face, of any size; aligned ones (ALIGNED_PX, ALIGNED_PX, 3).

        Raises:
            NoFaceError: if it has to be found and is not.
        """
        if self.detector is not None:
            return align(image, detect_points(image, self.detector))
        height, width = image.shape[:2]
        x0, y0, x1, y1 = (round(share * side) for share, side in zip(self.part, (width, height) * 2, strict=True))
        x0, y0 = min(x0, width - 1), min(y0, height - 1)
        return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def face_input(image: Image, *, cut: FaceCrop, input_size: int) -> Image:
    """The face of a photo as a network takes it: cut out, and scaled to (input_size, input_size, 3).

    Raises:
        NoFaceError: if there is none.
    """
    return center_crop(cut(image), input_size, 1)


def detect_points(image: Image, detector: str) -> NDArray[np.float64]:
    """Five points (5, 2) in pixels, as in `TEMPLATE`, of the largest face.

    Raises:
        NoFaceError: if there is none.
        ValueError: if the detector cannot be used.
    """
    scale = min(1, MAX_DETECTED_SIDE_PX / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    network = _open(detector)
    network.setInputSize(size)
    _, faces = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if faces is None or not len(faces):
        raise NoFaceError("no face found")
    largest = max(faces, key=lambda face: face[2] * face[3])
    points: NDArray[np.float64] = np.asarray(largest[4:14], np.float64).reshape(5, 2) / scale
    return points


def align(image: Image, points: NDArray[np.float64]) -> Image:
    """The photo turned, scaled and moved so that five points come as near to `TEMPLATE` as they can.

    minimise over a, b, t of sum |a x - b y + t_x - u|^2 + |b x + a y + t_y - v|^2,   (u, v) the template's points
    """
    x, y = points.T
    zero, one = np.zeros(5), np.ones(5)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, t_x, t_y = np.linalg.lstsq(rows, (ALIGNED_PX * TEMPLATE).T.ravel(), rcond=None)[0]
    matrix = np.array([[a, -b, t_x], [b, a, t_y]])
    return cv2.warpAffine(image, matrix, (ALIGNED_PX, ALIGNED_PX), flags=cv2.INTER_LINEAR)  # type: ignore[return-value]


@functools.cache  # one for each process; it cannot be sent to another
def _open(detector: str) -> cv2.FaceDetectorYN:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of what it asks of itself
    try:
        return cv2.FaceDetectorYN.create(detector, "", (ALIGNED_PX, ALIGNED_PX), score_threshold=MIN_SCORE)
    except cv2.error as error:
        raise ValueError(
            f"data.align: {detector}: not a face detector that OpenCV can read; {WHERE_TO_GET_IT}"
        ) from error
