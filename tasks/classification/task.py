"""The classification task: its model and loss; data, metric and drawing are in `inference.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from backbone.weights import Weights, imagenet_class_names, load_classes
from datasets.loader import Collate
from datasets.mixing import LabelMixing
from datasets.transforms import CropAugmentation
from datasets.types import Label
from tasks.classification.config import ClassificationConfig
from tasks.classification.inference import ClassificationInference, open_data
from tasks.classification.loss import ClassTargets, class_targets, classification_loss
from tasks.classification.model import ClassificationModel, decode_labels
from tasks.common.deploy.postprocessing import parse_graph
from tasks.common.model.logits import Logits
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task

if TYPE_CHECKING:
    from onnx import GraphProto


PAPER_NUM_CLASSES = 1000


class ClassificationTask(ClassificationInference, Task[Label]):
    """A backbone and a softmax classifier."""

    @classmethod
    def from_data(cls, config: ClassificationConfig) -> Self:
        """The task for the classes of the training images."""
        data, data_format = open_data(config)
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
            data, data_format = open_data(config)
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

    def collate(self) -> Collate[Label]:
        """Class ids, or probabilities for mixed images."""
        return class_targets

    def loss(self, outputs: Logits, targets: ClassTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Cross-entropy."""
        return classification_loss(outputs, targets, label_smoothing=self.config.label_smoothing)

    def decode(self, outputs: Logits) -> list[Label]:
        """The predicted class and all probabilities."""
        return decode_labels(outputs)

    def postprocessing(self, network: nn.Module) -> GraphProto:
        """The probabilities of the classes."""
        return parse_graph(
            "softmax (float[N, K] logits) => (float[N, K] probabilities) { probabilities = Softmax (logits) }"
        )

    def rows_in(self, class_names: Sequence[str]) -> dict[int, int]:
        """Class id of this task -> row in a classifier with those class names, for the classes they share."""
        class_names = tuple(class_names)
        is_imagenet = self.metadata["data"] == "imagenet" and class_names == imagenet_class_names()
        if list(class_names) == self.class_names or (is_imagenet and len(class_names) == len(self.class_names)):
            return {class_id: class_id for class_id in range(len(class_names))}
        row_of = {name: row for row, name in enumerate(class_names) if class_names.count(name) == 1}
        return {class_id: row_of[name] for class_id, name in enumerate(self.class_names) if name in row_of}
