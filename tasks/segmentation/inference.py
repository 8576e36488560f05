"""Segmentation without a network: data, inputs, metric, pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from datasets.drawing.masks import class_colours
from datasets.pillow_resizing import resize_by_pillow
from datasets.sample.segmentation import sample_root
from datasets.segmentation.masked import MaskedImages
from datasets.segmentation.masks import resize_mask
from datasets.segmentation.read import open_segmentation
from datasets.shards.find import open_root
from datasets.sources import Preprocess
from datasets.splits import Holdout, SplitData
from datasets.types import VOID, Image, Mask, Split
from tasks.common.agreement import Agreement, divergence
from tasks.common.inference_task import FailureCase, InferenceTask, require_same_classes
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.draw import draw_masks
from tasks.segmentation.metric import SegmentationMetric, confusion_of

MIN_SUMMARIZED = 0.005  # fraction of the pixels of a class in a line, after the first


class SegmentationInference(InferenceTask[Mask]):
    """A class for each pixel."""

    name = "segmentation"
    metadata_keys = ("class_names",)
    score_name = "mIoU"

    def __init__(self, config: SegmentationConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `class_names` by class id, and `num_pixels` of each where it is needed."""
        super().__init__(config, metadata)
        self.class_names: list[str] = metadata["class_names"]

    def _open_data(self) -> SplitData[MaskedImages]:
        return open_data(self.config)

    def source(self, split: Split) -> MaskedImages:
        """The images of a split.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if they cannot be read, or their classes differ from the task's.
        """
        source: MaskedImages = self.data[split]
        source.decoding = self.decoding
        require_same_classes(source.class_names, self.class_names, self.data.root)
        return source

    def preprocessing(self) -> Preprocess:
        """Resizing to the input size, without keeping the aspect ratio."""
        return partial(resize_by_pillow, input_size=self.config.data.input_size)

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[Mask]:
        """The logits of each image, which give its classes at any size."""
        return [mask_of_logits(logits) for logits in outputs["class_logits"]]

    def predictor_settings(self) -> dict[str, Any]:
        """The preprocessing, and the names with their colours in pictures, see `InferenceTask`."""
        return super().predictor_settings() | {
            "resize": "stretch",
            "antialias": True,
            "names": self.class_names,
            "colours": class_colours(self.class_names),
        }

    def agreement(self, reference: Sequence[Mask], predicted: Sequence[Mask]) -> Agreement:
        """The fraction of pixels of the networks' outputs with the same class, and the divergence of a pixel."""
        p, q = (_probabilities(masks) for masks in (reference, predicted))
        return Agreement(float((p.argmax(1) == q.argmax(1)).mean()), divergence(p, q))

    def label_sizes(self) -> dict[str, tuple[int, int]]:
        """A map for each class, see `InferenceTask`."""
        return dict.fromkeys(("logits", "class_logits"), (1, len(self.class_names)))

    def metric(self) -> SegmentationMetric:
        """Mean intersection over union."""
        return SegmentationMetric(self.class_names)

    def failure_case(self, predicted: Mask, truth: Mask) -> FailureCase[Mask] | None:
        """All of the image, by the fraction of its pixels that are wrong."""
        resized = resize_mask(predicted, truth.class_ids.shape)
        matrix = confusion_of(resized.class_ids, truth.class_ids, len(self.class_names))
        errors = matrix - np.diag(matrix.diagonal())
        if not errors.any():
            return None
        true_id, predicted_id = divmod(int(errors.argmax()), len(matrix))
        fraction = errors.sum() / matrix.sum()
        what = f"wrong, most of them {self.class_names[predicted_id]}: is {self.class_names[true_id]}"
        return FailureCase(float(fraction), what, resized)

    def draw(self, image: Image, predicted: Mask, truth: Mask | None = None) -> Image:
        """The image under its classes, beside one under the true ones."""
        return draw_masks(image, predicted, truth, self.class_names)

    def describe(self, predicted: Mask, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The classes in the image, each with its fraction of the pixels and COCO's run lengths of its mask."""
        class_ids = resize_mask(predicted, image_hw).class_ids
        return {
            "classes": [
                {
                    "class_name": self.class_names[class_id],
                    "class_id": class_id,
                    "fraction": round(fraction, 4),
                    "mask": _run_lengths(class_ids == class_id),
                }
                for class_id, fraction in self._fractions(class_ids).items()
            ]
        }

    def in_image(self, predicted: Mask, image_hw: tuple[int, int]) -> Mask:
        """The class of each pixel of the image."""
        return resize_mask(predicted, image_hw)

    def summarize(self, predicted: Sequence[Mask]) -> str:
        """The classes with their fractions of the pixels, such as "Road 0.41, Sky 0.22"."""
        fractions = {self.class_names[class_id]: value for class_id, value in self._of_first(predicted).items()}
        shown = {name: value for name, value in fractions.items() if value >= MIN_SUMMARIZED} or fractions
        return ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in shown.items())

    def table(self, predicted: Sequence[Mask]) -> dict[str, NDArray[Any]]:
        """A row for each class in the image."""
        fractions = self._of_first(predicted)
        return {
            "class_name": np.array([self.class_names[class_id] for class_id in fractions], str),
            "class_id": np.array([*fractions], np.int64),
            "fraction": np.array([*fractions.values()], np.float32),
        }

    def _of_first(self, predicted: Sequence[Mask]) -> dict[int, float]:
        return self._fractions(predicted[0].class_ids)

    def _fractions(self, class_ids: NDArray[np.uint8]) -> dict[int, float]:
        """The fraction of the pixels of each class that is there, the largest first."""
        fractions = np.bincount(class_ids.ravel(), minlength=VOID + 1)[: len(self.class_names)] / class_ids.size
        order = np.argsort(-fractions, kind="stable")
        return {class_id: float(fractions[class_id]) for class_id in order.tolist() if fractions[class_id] > 0}


def open_data(config: SegmentationConfig) -> SplitData[MaskedImages]:
    """The configured data."""
    data = config.data
    root = sample_root() if data.root is None else open_root(data.root)
    return open_segmentation(root, format=data.format, holdout=Holdout.from_settings(data.val_fraction, data.fold))


def mask_of_logits(logits: NDArray[np.float32]) -> Mask:
    """A prediction from logits (K, h, w)."""
    return Mask(logits.argmax(0).astype(np.uint8), logits)


def _probabilities(masks: Sequence[Mask]) -> NDArray[np.float32]:
    """(pixels of all masks, K)."""
    logits = np.concatenate([mask.logits.reshape(len(mask.logits), -1).T for mask in masks if mask.logits is not None])
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)  # type: ignore[no-any-return]


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask, as JSON."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
