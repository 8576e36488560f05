"""The objects that travel through the suite. Read this first.

Truth and prediction of a task are one type, so a metric and a picture always take two of the same thing:

    Example[T] -> Batch[T] -> model -> Outputs -> decode -> list[T];    metric.update(predicted, truth)

They hold NumPy arrays and are read by metrics and drawing on the CPU. A loss takes `targets` instead: a NamedTuple of
tensors that a loader process has made of a training batch's truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
Split = Literal["train", "val"]
Image = NDArray[np.uint8]  # one RGB image, (H, W, 3)


@dataclass(frozen=True)
class Example(Generic[T]):
    """One image and its truth.

    Attributes:
        image: uint8 RGB (H, W, 3).
        truth: what is true of the image.
        id: unique within the data set; the file's path where there is one.
        row: position in the data set.
        seed: of all that is drawn at random for this example in this epoch.
    """

    image: Image
    truth: T
    id: str
    row: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Batch(Generic[T]):
    """Examples of one size, ready for a network.

    Attributes:
        images: uint8 RGB (N, 3, H, W), channels last in memory; each network normalises for itself.
        truth: N truths, for metrics and pictures; empty in training.
        targets: the truth as a NamedTuple of tensors, for the loss; None outside training.
        rows: N positions in the data set.
        unreadable: one line for each example that was left out or replaced because its image could not be read.
    """

    images: Tensor
    truth: list[T]
    targets: Any
    rows: list[int]
    unreadable: list[str]

    def __len__(self) -> int:
        return len(self.rows)

    def pin_memory(self) -> Batch[T]:
        """The same in page-locked memory, which a GPU reads while the CPU goes on; torch's loader calls this."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch[T]:
        """The same with images and targets on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch[T]:
        return replace(self, images=function(self.images), targets=map_tensors(function, self.targets))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A NamedTuple of tensors, or of such, with each tensor replaced by what a function makes of it.

    What is neither a tensor nor a tuple stays as it is.
    """
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(*(map_tensors(function, part) for part in value)) if isinstance(value, tuple) else value


@dataclass(frozen=True, eq=False)
class Label:
    """What one image shows, true or predicted.

    Attributes:
        class_id: 0-based; of a mixture, the larger part.
        probabilities: float32 (K,), of each class, sum 1; None for a truth that is certain.
    """

    class_id: int
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """Where one photo was taken, true or predicted.

    Attributes:
        lat_deg: latitude in [-90, 90].
        lng_deg: longitude in [-180, 180].
        cell_id: the cell thought most probable, a position among the model's cells; None for a truth.
        probabilities: float32 (cells,), of each cell; they sum to 1, or less where some of it lies in no cell.
    """

    lat_deg: float
    lng_deg: float
    cell_id: int | None = None
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Attributes:
    """What one image has of some attributes, true or predicted.

    Attributes:
        values: float32 (K,) in [0, 1]: of a truth 0 or 1, of a prediction how probable each is.
    """

    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Face:
    """Whose face one image shows, or where a network puts it among all faces.

    Attributes:
        identity: the person; None for a prediction.
        image_number: of the photo among those of its identity, as in the data; None for a prediction.
        embedding: float32 (D,) of length 1; None for a truth.
    """

    identity: str | None = None
    image_number: int | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects in one image, true or predicted.

    Attributes:
        boxes_xyxy: float32 (M, 4), pixels of an image of size `image_hw`: x0, y0, x1, y1 from its top left corner.
        class_ids: int64 (M,), 0-based, without background.
        image_hw: height and width in pixels of the frame that the boxes are in.
        scores: float32 (M,) in [0, 1]; None for truth.
        is_crowd: bool (M,), boxes around an uncounted group, which COCO's protocol ignores; None: there is none.
        areas_px: float32 (M,), annotated object areas, by which COCO sorts small from large; None: the boxes' own.
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
        """The same objects in the frame of the same image stretched to `image_hw` pixels."""
        scale_y, scale_x = (new / old for new, old in zip(image_hw, self.image_hw, strict=True))
        boxes_xyxy = self.boxes_xyxy * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        areas_px = None if self.areas_px is None else self.areas_px * np.float32(scale_x * scale_y)
        return replace(self, boxes_xyxy=boxes_xyxy, areas_px=areas_px, image_hw=image_hw)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """The objects that a mask or an index picks, in that order."""
        picked: dict[str, Any] = {
            name: values[keep] for name, values in vars(self).items() if isinstance(values, np.ndarray)
        }
        return replace(self, **picked)
