"""Detection without a network: data, inputs, metric, pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.detection.annotated import AnnotatedImages, Categories
from datasets.detection.read import open_detection
from datasets.drawing.boxes import draw_detections
from datasets.pillow_resizing import resize_by_pillow
from datasets.sample.detection import sample_root
from datasets.shards.find import open_root
from datasets.sources import Preprocess
from datasets.splits import Holdout, SplitData
from datasets.types import Detections, Image, Split
from tasks.common.agreement import Agreement
from tasks.common.inference_task import FailureCase, InferenceTask
from tasks.common.runs.threshold import resolve_threshold
from tasks.detection.config import DetectionConfig
from tasks.detection.draw import draw_failure_case
from tasks.detection.metric import DetectionMetric, match_objects, worst_false_positive
from tasks.detection.summary import summarize_detections

_CLASS_COLUMN = "postprocessing_class_column"  # a constant of `onnx_postprocess.py`, with a row for each class
NUM_COMPARED = 10  # boxes of an image, by which two networks are compared


class DetectionInference(InferenceTask[Detections]):
    """Objects in boxes."""

    name = "detection"
    metadata_keys = ("category_ids", "class_names")
    score_name = "AP"

    def __init__(self, config: DetectionConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `category_ids` and `class_names`, by class id."""
        super().__init__(config, metadata)
        self.class_names: list[str] = metadata["class_names"]
        self.threshold = resolve_threshold(config.threshold, run=None)  # `load_model` has looked up what is no number

    @classmethod
    def check_metadata(cls, metadata: Mapping[str, Any]) -> None:
        """Read the ids of the classes."""
        if np.array(metadata["category_ids"], np.int64).shape != (len(metadata["class_names"]),):
            raise ValueError("there are not as many category_ids as class_names")

    def _open_data(self) -> SplitData[AnnotatedImages]:
        return open_data(self.config)

    def source(self, split: Split) -> AnnotatedImages:
        """The annotated images of a split, with the task's class ids.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if the annotations are faulty, or have objects of other categories than the task.
        """
        categories = Categories(tuple(self.metadata["category_ids"]), tuple(self.class_names))
        source: AnnotatedImages = self.data[split].with_categories(categories)
        source.decoding = self.decoding
        return source

    def preprocessing(self) -> Preprocess:
        """Resizing to the input size, without keeping the aspect ratio."""
        data = self.config.data
        return partial(resize_by_pillow, input_size=data.input_size, antialias=data.antialias)

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[Detections]:
        """The boxes of each image in the frame of the network's input."""
        size = self.config.data.input_size
        found = zip(outputs["boxes_xyxy"], outputs["scores"], outputs["class_ids"], strict=True)
        return [
            Detections(boxes[scores > 0], class_ids[scores > 0], (size, size), scores=scores[scores > 0])
            for boxes, scores, class_ids in found
        ]

    def predictor_settings(self) -> dict[str, Any]:
        """The preprocessing and the names, see `InferenceTask`."""
        own = {"resize": "stretch", "antialias": self.config.data.antialias, "threshold": self.threshold}
        return super().predictor_settings() | own | {"names": self.class_names}

    def label_sizes(self) -> dict[str, tuple[int, int]]:
        """A score for each class and perhaps the background; in the postprocessing a row, see `InferenceTask`."""
        num_classes = len(self.class_names)
        has_background = self.config.model != "ssd" or self.config.ssd.scores == "softmax"
        return {
            "class_logits": (2, num_classes + has_background),
            "class_scores": (2, num_classes),
            _CLASS_COLUMN: (0, num_classes),
        }

    def agreement(self, reference: Sequence[Detections], predicted: Sequence[Detections]) -> Agreement:
        """The fraction of an image's `NUM_COMPARED` best boxes that match one of the reference's, by class and IoU."""
        best = [(_best(a), _best(b)) for a, b in zip(reference, predicted, strict=True)]
        num_matched = sum(int((match_objects(b, a) >= 0).sum()) for a, b in best)
        num_boxes = sum(max(len(a), len(b)) for a, b in best)
        return Agreement(num_matched / num_boxes if num_boxes else 1.0, None)

    def metric(self) -> DetectionMetric:
        """COCO's average precision."""
        return DetectionMetric(self.class_names, self.config.score_threshold)

    def failure_case(self, predicted: Detections, truth: Detections) -> FailureCase[Detections] | None:
        """The false positive with the highest score."""
        return worst_false_positive(predicted, truth, self.class_names)

    def draw(self, image: Image, predicted: Detections, truth: Detections | None = None) -> Image:
        """The boxes with a score of at least `threshold`, and the true ones."""
        return draw_detections(image, self._shown(predicted), truth, self.class_names)

    def draw_failure_case(self, image: Image, case: FailureCase[Detections], truth: Detections) -> Image:
        """The wrong box and its surroundings."""
        return draw_failure_case(image, case.predicted, truth, self.class_names)

    def describe(self, predicted: Detections, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The boxes with a score of at least `threshold`, in pixels of the image, with official category ids."""
        shown = self._shown(predicted).resized(image_hw)
        assert shown.scores is not None
        return {
            "detections": [
                {
                    "class_name": self.class_names[class_id],
                    "category_id": self.metadata["category_ids"][class_id],
                    "score": round(float(score), 4),
                    "box_xyxy": [round(float(value), 1) for value in box],
                }
                for box, class_id, score in zip(shown.boxes_xyxy, shown.class_ids, shown.scores, strict=True)
            ]
        }

    def in_image(self, predicted: Detections, image_hw: tuple[int, int]) -> Detections:
        """The boxes with a score of at least `threshold`, in pixels of the image."""
        return self._shown(predicted).resized(image_hw)

    def summarize(self, predicted: Sequence[Detections]) -> str:
        """The classes with their scores, such as "2 x dog 0.93 0.88, bicycle 0.71"."""
        return summarize_detections(self._shown(predicted[0]), self.class_names, self.threshold)

    def table(self, predicted: Sequence[Detections]) -> dict[str, NDArray[Any]]:
        """A row for each box."""
        shown = self._shown(predicted[0])
        return {
            "class_name": np.array(self.class_names, str)[shown.class_ids],
            "category_id": np.array(self.metadata["category_ids"], np.int64)[shown.class_ids],
            "score": np.asarray(shown.scores),
            **dict(zip(("x0", "y0", "x1", "y1"), shown.boxes_xyxy.T, strict=True)),
        }

    def _shown(self, predicted: Detections) -> Detections:
        if predicted.scores is None:
            return predicted
        return predicted.select(np.asarray(predicted.scores >= self.threshold))


def _best(predicted: Detections) -> Detections:
    return predicted.select(np.arange(min(len(predicted), NUM_COMPARED)))  # they are in descending order


def open_data(config: DetectionConfig) -> SplitData[AnnotatedImages]:
    """The configured data."""
    data = config.data
    return open_detection(
        sample_root() if data.root is None else open_root(data.root),
        format=data.format,
        images={"train": data.train_images, "val": data.val_images},
        annotations={"train": data.train_annotations, "val": data.val_annotations},
        holdout=Holdout.from_settings(data.val_fraction, data.fold),
    )
