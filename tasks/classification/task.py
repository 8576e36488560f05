"""The parts of classification, named in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from backbone.published import IMAGENET_CLASS_NAMES
from backbone.weights import load_classes
from datasets.labelled import LabelledImages, read_folders, read_imagenet, read_stanford_dogs
from datasets.loader import Collate, Preprocess
from datasets.mixing import LabelMixing
from datasets.sample.classification import sample_root
from datasets.transforms import CropAugmentation, center_crop
from datasets.types import Image, Label, Split
from tasks.classification.config import ClassificationConfig
from tasks.classification.draw import draw_label, most_probable
from tasks.classification.loss import ClassTargets, class_targets, classification_loss
from tasks.classification.metric import ClassificationMetric
from tasks.classification.model import ClassificationModel, decode_labels
from tasks.common.model.logits import Logits
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase, Task

PAPER_NUM_CLASSES = 1000
DESCRIBED = 5  # classes in a record of predictions.jsonl


class ClassificationTask(Task[Label]):
    """A softmax over classes."""

    name = "classification"
    score_name = "top1"

    def __init__(self, config: ClassificationConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `data` (its `data.name`), and `class_names` by class id."""
        super().__init__(config, metadata)
        self.class_names: list[str] = metadata["class_names"]
        self._sources: dict[Split, LabelledImages] = {}  # read once: ImageNet has a million files

    @classmethod
    def from_data(cls, config: ClassificationConfig) -> Self:
        """The task for the classes of the training images."""
        train = _read_split(config, "train")
        task = cls(config, _metadata(config, train.class_names))
        task._sources["train"] = train
        return task

    @classmethod
    def with_num_classes(cls, config: ClassificationConfig, num_classes: int | None) -> Self:
        """The task for nameless classes; by default ImageNet's number of them."""
        return cls(config, _metadata(config, list(map(str, range(num_classes or PAPER_NUM_CLASSES)))))

    @classmethod
    def from_published(cls, config: ClassificationConfig) -> Self:
        """The task of the weights' own classes, or of those of them that the data have.

        Raises:
            ValueError: if the weights have no classifier, or the data have classes that it does not know.
        """
        weights = open_pretrained(config)
        assert weights is not None
        if not weights.class_names:
            raise ValueError(f"backbone.pretrained: {weights.origin} has no classifier; train one, and give its --run")
        if config.data.root is None:
            task = cls(config, {"data": config.data.name, "class_names": list(weights.class_names)})
        else:
            task = cls(config, _metadata(config, _read_split(config, "val").class_names))
        num_known, num_classes = len(task.rows_in(weights.class_names)), len(task.class_names)
        if num_known < num_classes:
            raise ValueError(
                f"backbone.pretrained: the classifier of {weights.origin} has {len(weights.class_names)} classes, and "
                f"{num_known} of the data's {num_classes} are among them, by name (all of ImageNet: data.name: "
                "imagenet); train first, and give its --run"
            )
        return task

    def build_model(self) -> ClassificationModel:
        """The network with the configured weights; a class that their classifier has too starts as it is there."""
        weights = open_pretrained(self.config)
        model = ClassificationModel(build_pretrained(self.config, weights), len(self.class_names))
        if weights is not None:
            rows = self.rows_in(weights.class_names)
            if rows:
                load_classes(model, weights, rows)
        return model

    def source(self, split: Split) -> LabelledImages:
        """The images of a split.

        Raises:
            ValueError: if they cannot be read or have other classes than the task.
        """
        if split not in self._sources:
            self._sources[split] = _read_split(self.config, split)
        source = self._sources[split]
        if list(source.class_names) != self.class_names:
            raise ValueError(
                f"the {len(source.class_names)} classes of the data ({', '.join(source.class_names[:3])}, ...) are not "
                f"the {len(self.class_names)} that the model has outputs for ({', '.join(self.class_names[:3])}, ...)"
            )
        return source

    def augmentation(self) -> CropAugmentation:
        """A random part of the image, and what `augment` asks for."""
        augment = self.config.augment
        return CropAugmentation(
            self.config.data.input_size, min_crop_area=augment.min_crop_area, randaugment_ops=augment.randaugment_ops
        )

    def mixing(self) -> LabelMixing | None:
        """MixUp and CutMix, where `augment` asks for them."""
        alphas = {"mixup_alpha": self.config.augment.mixup_alpha, "cutmix_alpha": self.config.augment.cutmix_alpha}
        return LabelMixing(len(self.class_names), **alphas) if any(alphas.values()) else None

    def preprocessing(self) -> Preprocess:
        """The centre of the image, scaled."""
        data = self.config.data
        return partial(center_crop, input_size=data.input_size, crop_fraction=data.crop_fraction)

    def collate(self) -> Collate[Label]:
        """Class ids, or where images are mixed probabilities."""
        return class_targets

    def loss(self, outputs: Logits, targets: ClassTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Cross-entropy."""
        return classification_loss(outputs, targets, label_smoothing=self.config.label_smoothing)

    def decode(self, outputs: Logits) -> list[Label]:
        """The most probable class, and all probabilities."""
        return decode_labels(outputs)

    def metric(self) -> ClassificationMetric:
        """Top-1 and top-5."""
        return ClassificationMetric(self.class_names)

    def failure_case(self, predicted: Label, truth: Label) -> FailureCase[Label] | None:
        """The predicted class where it is not the true one."""
        if predicted.class_id == truth.class_id or predicted.probabilities is None:
            return None
        what = f"{self.class_names[predicted.class_id]}: is {self.class_names[truth.class_id]}"
        return FailureCase(float(predicted.probabilities[predicted.class_id]), what, predicted)

    def draw(self, image: Image, predicted: Label, truth: Label | None = None) -> Image:
        """The image with its most probable classes."""
        return draw_label(image, predicted, truth, self.class_names)

    def describe(self, predicted: Label, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The five most probable classes, the best first."""
        assert predicted.probabilities is not None
        return {
            "classes": [
                {
                    "class_name": self.class_names[class_id],
                    "class_id": class_id,
                    "probability": round(float(predicted.probabilities[class_id]), 4),
                }
                for class_id in most_probable(predicted)[:DESCRIBED]
            ]
        }

    def rows_in(self, theirs: Sequence[str]) -> dict[int, int]:
        """Class id here -> class id in another classifier, by its class names, of the classes that both have."""
        theirs = tuple(theirs)
        is_imagenet = self.metadata["data"] == "imagenet" and theirs == IMAGENET_CLASS_NAMES
        if list(theirs) == self.class_names or (is_imagenet and len(theirs) == len(self.class_names)):
            return {class_id: class_id for class_id in range(len(theirs))}
        id_of = {name: class_id for class_id, name in enumerate(theirs) if theirs.count(name) == 1}
        return {class_id: id_of[name] for class_id, name in enumerate(self.class_names) if name in id_of}


def _metadata(config: ClassificationConfig, class_names: Sequence[str]) -> dict[str, Any]:
    return {"data": config.data.name, "class_names": list(class_names)}


def _read_split(config: ClassificationConfig, split: Split) -> LabelledImages:
    data = config.data
    root = sample_root() if data.root is None else Path(data.root)
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder {root}")
    if data.name == "imagenet":
        source = read_imagenet(root, split)
    elif data.name == "stanford_dogs":
        source = read_stanford_dogs(root, split)
    else:
        source = read_folders(root, split, val_fraction=data.val_fraction)
    source.min_side_px = 2 * data.input_size  # no crop of a larger photo shows more
    return source
