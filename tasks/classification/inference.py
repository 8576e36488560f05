"""Classification without a network: data, inputs, metric, pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.classification.class_folders import open_labelled
from datasets.classification.labelled import LabelledImages
from datasets.images.read import Decoding
from datasets.pillow_resizing import center_crop
from datasets.sample.classification import sample_root
from datasets.shards.find import open_root
from datasets.sources import Preprocess
from datasets.splits import Holdout, SplitData
from datasets.types import Image, Label, Split
from tasks.classification.config import ClassificationConfig
from tasks.classification.draw import draw_label, rank_classes
from tasks.classification.metric import ClassificationMetric
from tasks.common.agreement import Agreement, divergence
from tasks.common.inference_task import FailureCase, InferenceTask, require_same_classes

NUM_DESCRIBED_CLASSES = 5  # in a record of predictions.jsonl
NUM_SUMMARIZED_CLASSES, MIN_SUMMARIZED = 3, 0.01  # in a line: how many, and their lowest probability after the first


class ClassificationInference(InferenceTask[Label]):
    """One class of several for each image."""

    name = "classification"
    metadata_keys = ("data", "class_names")
    score_name = "top1"

    def __init__(self, config: ClassificationConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `data` (its format), and `class_names` by class id."""
        super().__init__(config, metadata)
        self.class_names: list[str] = metadata["class_names"]

    def _open_data(self) -> SplitData[LabelledImages]:
        data, _ = open_data(self.config)
        return data

    def source(self, split: Split) -> LabelledImages:
        """The images of a split.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if they cannot be read, or their classes differ from the task's.
        """
        source: LabelledImages = self.data[split]
        data = self.config.data
        source.decoding = Decoding(2 * data.input_size, data.pixel_range)  # larger images add no detail to a crop
        require_same_classes(source.class_names, self.class_names, self.data.root)
        return source

    def preprocessing(self) -> Preprocess:
        """Resize and centre crop."""
        data = self.config.data
        return partial(center_crop, input_size=data.input_size, crop_fraction=data.crop_fraction)

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[Label]:
        """The class of each image and all probabilities."""
        return [Label(int(row.argmax()), row) for row in outputs["probabilities"]]

    def agreement(self, reference: Sequence[Label], predicted: Sequence[Label]) -> Agreement:
        """The fraction of images with the same class, and the divergence of the probabilities."""
        p, q = (np.array([label.probabilities for label in labels], np.float32) for labels in (reference, predicted))
        return Agreement(float((p.argmax(1) == q.argmax(1)).mean()), divergence(p, q))

    def predictor_settings(self) -> dict[str, Any]:
        """The preprocessing and the names, see `InferenceTask`."""
        crop = {"resize": "center_crop", "crop_fraction": self.config.data.crop_fraction}
        return super().predictor_settings() | crop | {"names": self.class_names}

    def label_sizes(self) -> dict[str, tuple[int, int]]:
        """A value for each class, see `InferenceTask`."""
        return dict.fromkeys(("logits", "probabilities"), (1, len(self.class_names)))

    def metric(self) -> ClassificationMetric:
        """Top-1 and top-5."""
        return ClassificationMetric(self.class_names)

    def failure_case(self, predicted: Label, truth: Label) -> FailureCase[Label] | None:
        """The predicted class if it is wrong."""
        if predicted.class_id == truth.class_id or predicted.probabilities is None:
            return None
        description = f"{self.class_names[predicted.class_id]}: is {self.class_names[truth.class_id]}"
        return FailureCase(float(predicted.probabilities[predicted.class_id]), description, predicted)

    def draw(self, image: Image, predicted: Label, truth: Label | None = None) -> Image:
        """The image with its top classes."""
        return draw_label(image, predicted, truth, self.class_names)

    def describe(self, predicted: Label, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The top five classes."""
        return {
            "classes": [
                {"class_name": class_name, "class_id": class_id, "probability": round(probability, 4)}
                for class_name, class_id, probability in self._top_classes(predicted)
            ]
        }

    def summarize(self, predicted: Sequence[Label]) -> str:
        """The most probable classes, such as "golden retriever 0.93, Labrador retriever 0.04"."""
        best = {name: probability for name, _, probability in self._top_classes(predicted[0])[:NUM_SUMMARIZED_CLASSES]}
        shown = {name: value for name, value in best.items() if value >= MIN_SUMMARIZED} or best
        return ", ".join(f"{name.replace('_', ' ')} {probability:.2f}" for name, probability in shown.items())

    def table(self, predicted: Sequence[Label]) -> dict[str, NDArray[Any]]:
        """A row for each of the top five classes."""
        names, class_ids, probabilities = zip(*self._top_classes(predicted[0]), strict=True)
        return {
            "class_name": np.array(names, str),
            "class_id": np.array(class_ids, np.int64),
            "probability": np.array(probabilities, np.float32),
        }

    def _top_classes(self, predicted: Label) -> list[tuple[str, int, float]]:
        """Name, id and probability of the top five classes."""
        assert predicted.probabilities is not None
        class_ids = rank_classes(predicted)[:NUM_DESCRIBED_CLASSES]
        return [(self.class_names[row], row, float(predicted.probabilities[row])) for row in class_ids]


def open_data(config: ClassificationConfig) -> tuple[SplitData[LabelledImages], str]:
    """The data, and their format."""
    data = config.data
    root = sample_root() if data.root is None else open_root(data.root)
    return open_labelled(root, format=data.format, holdout=Holdout.from_settings(data.val_fraction, data.fold))
