"""Examples, and the types of truth and predictions. Read this first; `batch.py` is next.

Truth and predictions of a task have the same type T, which metrics and drawing take:

    Example[T] -> Batch[T] -> model -> Outputs -> decode -> list[T];    metric.update(predicted, truth)

They hold NumPy arrays on the CPU. A loss takes `targets` instead: a NamedTuple of tensors, collated from the truth of a
training batch in the loader processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Split = Literal["train", "val", "test"]
Image = NDArray[np.uint8]  # one RGB image, (H, W, 3)
VOID = 255  # class id of the pixels of a mask that are neither trained on nor scored


@dataclass(frozen=True)
class Example(Generic[T]):
    """One image and its truth.

    Attributes:
        image: uint8 RGB (H, W, 3).
        truth: the ground truth.
        id: unique within the data set; the path of the file if there is one.
        row: index in the data set.
        seed: RNG seed for this example in this epoch.
    """

    image: Image
    truth: T
    id: str
    row: int = 0
    seed: int = 0


class Unreadable(NamedTuple):
    """Stands in for an example that is left out.

    Attributes:
        reason: with the name of the image.
        is_empty: the image was read, but there is nothing in it to learn from or to score, such as no face.
    """

    reason: str
    is_empty: bool = False


class DetectedFace(NamedTuple):
    """A face that was detected in a photo.

    Attributes:
        box_xyxy: x0, y0, x1, y1 in pixels of the photo; parts of it may be outside.
        landmarks: (5, 2), x and y in pixels of the photo: eyes, tip of the nose and corners of the mouth, left in the
            image first.
        score: confidence in [0, 1].
    """

    box_xyxy: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]
    score: float

    def to_record(self) -> dict[str, Any]:
        """The face in a JSON record of its photo."""
        return {
            "face_box_xyxy": [round(value, 1) for value in self.box_xyxy],
            "landmarks": self.landmarks.round(1).tolist(),
            "score": round(self.score, 4),
        }


class PreparedImage(NamedTuple):
    """The network's input for one prediction.

    Attributes:
        pixels: uint8 RGB (S, S, 3).
        face: the detected face that it shows; None without a face detector.
    """

    pixels: Image
    face: DetectedFace | None = None


@dataclass(frozen=True, eq=False)
class Label:
    """The class of an image, true or predicted.

    Attributes:
        class_id: 0-based; of a mixed image, the class of the larger part.
        probabilities: float32 (K,), sum 1; None for the truth of an image that is not mixed.
    """

    class_id: int
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """The coordinate where a photo was taken, true or predicted.

    Attributes:
        lat_deg: latitude in [-90, 90].
        lng_deg: longitude in [-180, 180].
        cell_id: index of the most probable of the model's cells; None for truth.
        probabilities: float32 (cells,); the sum is 1, or less if part of the probability lies outside all cells.
    """

    lat_deg: float
    lng_deg: float
    cell_id: int | None = None
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attributes of an image, true or predicted.

    Attributes:
        values: float32 (K,): 0 or 1 for truth, probabilities for a prediction.
    """

    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Face:
    """The identity of a face (truth), or its embedding (prediction).

    Attributes:
        identity: name of the identity; None for a prediction.
        image_number: of the photo among those of its identity, as in the data; None for a prediction.
        embedding: float32 (D,), L2-normalised; None for truth.
    """

    identity: str | None = None
    image_number: int | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects in one image, true or predicted.

    Attributes:
        boxes_xyxy: float32 (M, 4), x0, y0, x1, y1 in pixels of an image of size `image_hw`, from its top left corner.
        class_ids: int64 (M,), 0-based, without background.
        image_hw: height and width of the image in pixels.
        scores: float32 (M,) in [0, 1]; None for truth.
        is_crowd: bool (M,), COCO's crowd boxes, which its protocol ignores; None if there are none.
        areas_px: float32 (M,), annotated object areas for COCO's size classes; None to use the areas of the boxes.
    """

    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    image_hw: tuple[int, int]
    scores: NDArray[np.float32] | None = None
    is_crowd: NDArray[np.bool_] | None = None
    areas_px: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        assert self.boxes_xyxy.shape == (len(self.class_ids), 4), (self.boxes_xyxy.shape, self.class_ids.shape)

    def __len__(self) -> int:
        return len(self.class_ids)

    def resized(self, image_hw: tuple[int, int]) -> Detections:
        """The objects after the image is stretched to `image_hw` pixels."""
        scale_y, scale_x = (new / old for new, old in zip(image_hw, self.image_hw, strict=True))
        boxes_xyxy = self.boxes_xyxy * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        areas_px = None if self.areas_px is None else self.areas_px * np.float32(scale_x * scale_y)
        return replace(self, boxes_xyxy=boxes_xyxy, areas_px=areas_px, image_hw=image_hw)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """The objects selected by a mask or by indices, in that order."""
        selected: dict[str, Any] = {
            name: values[keep] for name, values in vars(self).items() if isinstance(values, np.ndarray)
        }
        return replace(self, **selected)


@dataclass(frozen=True, eq=False)
class Mask:
    """The class of each pixel of an image, true or predicted.

    Attributes:
        class_ids: uint8 (H, W), 0-based, or `VOID`.
        logits: float32 (K, H, W), of a prediction at the resolution of the network's outputs; None for truth.
    """

    class_ids: NDArray[np.uint8]
    logits: NDArray[np.float32] | None = None
