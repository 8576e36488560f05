"""The classification task: its data, model, loss, metric and drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from backbone.weights import Weights, imagenet_class_names, load_classes
from datasets.classification.class_folders import open_labelled
from datasets.classification.labelled import LabelledImages
from datasets.files import existing_folder
from datasets.images.read import Decoding
from datasets.loader import Collate, Preprocess
from datasets.mixing import LabelMixing
from datasets.resizing import center_crop
from datasets.sample.classification import sample_root
from datasets.splits import Holdout, SplitData
from datasets.transforms import CropAugmentation
from datasets.types import Image, Label, Split
from tasks.classification.config import ClassificationConfig
from tasks.classification.draw import draw_label, rank_classes
from tasks.classification.loss import ClassTargets, class_targets, classification_loss
from tasks.classification.metric import ClassificationMetric
from tasks.classification.model import ClassificationModel, decode_labels
from tasks.common.model.logits import Logits
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase, Task

PAPER_NUM_CLASSES = 1000
NUM_DESCRIBED_CLASSES = 5  # in a record of predictions.jsonl
NUM_SUMMARIZED_CLASSES, MIN_SUMMARIZED = 3, 0.01  # in a line: how many, and their lowest probability after the first


class ClassificationTask(Task[Label]):
    """A backbone and a softmax classifier."""

    name = "classification"
    score_name = "top1"

    def __init__(self, config: ClassificationConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `data` (its format), and `class_names` by class id."""
        super().__init__(config, metadata)
        self.class_names: list[str] = metadata["class_names"]

    @classmethod
    def from_data(cls, config: ClassificationConfig) -> Self:
        """The task for the classes of the training images."""
        data, data_format = _open(config)
        task = cls(config, {"data": data_format, "class_names": list(data["train"].class_names)})
        task._data = data
        return task

    @classmethod
    def with_num_classes(cls, config: ClassificationConfig, num_classes: int | None) -> Self:
        """The task with numbered classes; ImageNet's 1000 by default."""
        class_names = list(map(str, range(num_classes or PAPER_NUM_CLASSES)))
        return cls(config, {"data": config.data.format, "class_names": class_names})

    @classmethod
    def from_pretrained(cls, config: ClassificationConfig, weights: Weights) -> Self:
        """The task for the classes of the weights' classifier, or for the dataset's classes if it has them all.

        Raises:
            ValueError: if the weights have no classifier, or it lacks some of the dataset's classes.
        """
        if not weights.class_names:
            raise ValueError(f"pretrained: {weights.origin} has no classifier; train one and pass its --run")
        if config.data.root is None:
            task = cls(config, {"data": config.data.format, "class_names": list(weights.class_names)})
        else:
            data, data_format = _open(config)
            some_split = "val" if "val" in data else data.names[0]
            task = cls(config, {"data": data_format, "class_names": list(data[some_split].class_names)})
            task._data = data
        num_found, num_classes = len(task.rows_in(weights.class_names)), len(task.class_names)
        if num_found < num_classes:
            raise ValueError(
                f"pretrained: the classifier of {weights.origin} has {len(weights.class_names)} classes, and "
                f"{num_found} of the dataset's {num_classes} are among them, by name (all of ImageNet: data.format: "
                "imagenet); train first and pass its --run"
            )
        return task

    def build_model(self) -> ClassificationModel:
        """The network with the configured weights; classes that their classifier shares keep their rows of it."""
        weights = open_pretrained(self.config, self.name)
        model = ClassificationModel(build_pretrained(self.config, weights), len(self.class_names))
        if weights is not None:
            rows = self.rows_in(weights.class_names)
            if rows:
                load_classes(model, weights, rows)
        return model

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and the classifier of the classes that it knows."""
        kept, num_known = super().kept(weights), len(self.rows_in(weights.class_names))
        if num_known:
            num_tensors = sum(name.startswith("head.") for name in weights.state)
            kept[f"the classifier of {num_known} of {len(self.class_names)} classes"] = num_tensors
        return kept

    def _open_data(self) -> SplitData[LabelledImages]:
        data, _ = _open(self.config)
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
        if list(source.class_names) != self.class_names:
            raise ValueError(
                f"the data have {len(source.class_names)} classes ({', '.join(source.class_names[:3])}, ...), but the "
                f"model has {len(self.class_names)} ({', '.join(self.class_names[:3])}, ...); both must be the same"
            )
        return source

    def augmentation(self) -> CropAugmentation:
        """A random resized crop, a flip and RandAugment."""
        augment = self.config.augment
        return CropAugmentation(
            self.config.data.input_size, min_crop_area=augment.min_crop_area, randaugment_ops=augment.randaugment_ops
        )

    def mixing(self) -> LabelMixing | None:
        """MixUp and CutMix, if enabled."""
        alphas = {"mixup_alpha": self.config.augment.mixup_alpha, "cutmix_alpha": self.config.augment.cutmix_alpha}
        return LabelMixing(len(self.class_names), **alphas) if any(alphas.values()) else None

    def classes_of(self, truths: Sequence[Label]) -> list[list[int]]:
        """The class of each image."""
        return [[truth.class_id] for truth in truths]

    def preprocessing(self) -> Preprocess:
        """Resize and centre crop."""
        data = self.config.data
        return partial(center_crop, input_size=data.input_size, crop_fraction=data.crop_fraction)

    def collate(self) -> Collate[Label]:
        """Class ids, or probabilities for mixed images."""
        return class_targets

    def loss(self, outputs: Logits, targets: ClassTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Cross-entropy."""
        return classification_loss(outputs, targets, label_smoothing=self.config.label_smoothing)

    def decode(self, outputs: Logits) -> list[Label]:
        """The predicted class and all probabilities."""
        return decode_labels(outputs)

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

    def rows_in(self, class_names: Sequence[str]) -> dict[int, int]:
        """Class id of this task -> row in a classifier with those class names, for the classes they share."""
        class_names = tuple(class_names)
        is_imagenet = self.metadata["data"] == "imagenet" and class_names == imagenet_class_names()
        if list(class_names) == self.class_names or (is_imagenet and len(class_names) == len(self.class_names)):
            return {class_id: class_id for class_id in range(len(class_names))}
        row_of = {name: row for row, name in enumerate(class_names) if class_names.count(name) == 1}
        return {class_id: row_of[name] for class_id, name in enumerate(self.class_names) if name in row_of}


def _open(config: ClassificationConfig) -> tuple[SplitData[LabelledImages], str]:
    """The data, and their format."""
    data = config.data
    root = sample_root() if data.root is None else existing_folder(data.root)
    return open_labelled(root, format=data.format, holdout=Holdout.from_settings(data.val_fraction, data.fold))
