"""Face crops: a fixed region of a photo, or detected faces, aligned by their landmarks or cut out by their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.face_detection import FaceDetector, WhichFaces
from datasets.pillow_resizing import center_crop
from datasets.types import DetectedFace, Image, PreparedImage

Part = tuple[float, float, float, float]
CropKind = Literal["aligned", "box"]
WHOLE: Part = (0, 0, 1, 1)
ALIGNED_PX = 224  # side of an aligned face
# ArcFace's landmark template (at 112 px), also used by most aligned data sets: eyes, tip of the nose and corners of the
# mouth, left in the image first, as fractions of the side.
LANDMARK_TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
LANDMARK_TEMPLATE /= 112


@dataclass(frozen=True)
class FaceCrop:
    """Crops faces from a photo.

    Attributes:
        part: x0, y0, x1, y1 as fractions of width and height, cropped if there is no detector.
        detector: finds faces; None for none.
        kind: of a detected face: `aligned`, its five landmarks moved to `LANDMARK_TEMPLATE`; or `box`, see `crop_box`.
        box_scale: enlargement of the box.
    """

    part: Part = WHOLE
    detector: FaceDetector | None = None
    kind: CropKind = "aligned"
    box_scale: float = 1.4

    def __call__(self, image: Image) -> Image:
        """The crop of the largest face, of any size.

        Raises:
            NoFaceError: if no face is detected.
        """
        ((crop, _),) = self.find(image, "largest")
        return crop

    def find(self, image: Image, which: WhichFaces) -> list[tuple[Image, DetectedFace | None]]:
        """The crop of each face that is wanted, and the face; without a detector one crop, and None.

        Raises:
            NoFaceError: if no face is detected, or several where exactly one is expected.
        """
        if self.detector is None:
            return [(self._crop_part(image), None)]
        return [(self._crop_face(image, face), face) for face in self.detector.find(image, which)]

    def _crop_face(self, image: Image, face: DetectedFace) -> Image:
        if self.kind == "box":
            return crop_box(image, face.box_xyxy, self.box_scale)
        return align(image, face.landmarks)

    def _crop_part(self, image: Image) -> Image:
        height, width = image.shape[:2]
        x0, y0, x1, y1 = (round(fraction * side) for fraction, side in zip(self.part, (width, height) * 2, strict=True))
        x0, y0 = min(x0, width - 1), min(y0, height - 1)
        return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def face_input(image: Image, *, face_crop: FaceCrop, input_size: int) -> Image:
    """The crop of the largest face, resized to (input_size, input_size, 3).

    Raises:
        NoFaceError: if no face is detected.
    """
    return center_crop(face_crop(image), input_size, 1)


def prepare_faces(image: Image, *, face_crop: FaceCrop, input_size: int, which: WhichFaces) -> list[PreparedImage]:
    """The same for each face that is wanted, with its box and landmarks where faces are detected.

    Raises:
        NoFaceError: if no face is detected, or several where exactly one is expected.
    """
    return [PreparedImage(center_crop(crop, input_size, 1), face) for crop, face in face_crop.find(image, which)]


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


def crop_box(image: Image, box_xyxy: tuple[float, float, float, float], scale: float) -> Image:
    """The box made square by its longer side and enlarged around its centre; outside the photo its border is repeated.

    Args:
        image: (H, W, 3).
        box_xyxy: x0, y0, x1, y1 in pixels; parts of it may be outside.
        scale: side of the crop / longer side of the box.
    """
    x0, y0, x1, y1 = box_xyxy
    side = max(1, round(scale * max(x1 - x0, y1 - y0)))
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    rows, columns = (
        np.clip(np.arange(start, start + side), 0, size - 1)
        for start, size in zip((top, left), image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns]
