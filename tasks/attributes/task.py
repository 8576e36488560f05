"""The attributes task: its data, model, loss, metric and drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datasets.alignment import FaceCrop, face_input, prepare_face
from datasets.celeba import AttributeImages, open_attributes
from datasets.files import existing_folder
from datasets.loader import Collate, Preprocess
from datasets.sample.attributes import sample_root
from datasets.splits import Holdout, SplitData
from datasets.transforms import CropAugmentation
from datasets.types import Attributes, Image, PreparedImage, Split
from tasks.attributes.config import AttributesConfig
from tasks.attributes.draw import draw_attributes
from tasks.attributes.loss import AttributeTargets, attribute_loss, attribute_targets, positive_weights
from tasks.attributes.metric import AttributesMetric
from tasks.attributes.model import AttributeNet, attribute_probabilities, decode_attributes
from tasks.common.model.logits import Logits
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runs.threshold import resolve_threshold
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase, Task

MIN_PROBABILITY = 0.5  # of the attributes in a line
CELEBA_NUM_ATTRIBUTES = 40  # the paper does not state the number in its own data


class AttributesTask(Task[Attributes]):
    """A backbone and a sigmoid for each attribute."""

    name = "attributes"
    score_name = "mean_ap"

    def __init__(self, config: AttributesConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `attribute_names` and their `prevalence` in the training images."""
        super().__init__(config, metadata)
        self.attribute_names: list[str] = metadata["attribute_names"]
        self._positive_weights = positive_weights(metadata["prevalence"], config.pos_weight_exponent)
        self._face_crop = FaceCrop(config.data.face_part, config.data.align)
        self.threshold = resolve_threshold(config.threshold, run=None)  # `load_model` has looked up what is no number

    @classmethod
    def from_data(cls, config: AttributesConfig) -> Self:
        """The task for the attributes of the training images."""
        data = _open(config)
        train = data["train"]
        prevalence = train.values.mean(0).round(6).tolist()
        task = cls(config, {"attribute_names": list(train.attribute_names), "prevalence": prevalence})
        task._data = data
        return task

    @classmethod
    def with_num_classes(cls, config: AttributesConfig, num_classes: int | None) -> Self:
        """The task with numbered attributes; CelebA's 40 by default."""
        num_attributes = num_classes or CELEBA_NUM_ATTRIBUTES
        names = list(map(str, range(num_attributes)))
        return cls(config, {"attribute_names": names, "prevalence": [0.5] * num_attributes})

    def build_model(self) -> AttributeNet:
        """The network with the configured weights."""
        return AttributeNet(
            build_pretrained(self.config, open_pretrained(self.config, self.name)), len(self.attribute_names)
        )

    def _open_data(self) -> SplitData[AttributeImages]:
        return _open(self.config)

    def source(self, split: Split) -> AttributeImages:
        """The images of a split.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if they cannot be read, or their attributes differ from the task's.
        """
        source: AttributeImages = self.data[split]
        if list(source.attribute_names) != self.attribute_names:
            raise ValueError(
                f"the data have {len(source.attribute_names)} attributes ({', '.join(source.attribute_names[:3])}, "
                f"...), but the model has {len(self.attribute_names)} ({', '.join(self.attribute_names[:3])}, ...); "
                "both must be the same"
            )
        source.decoding = self.decoding
        return source

    def augmentation(self) -> CropAugmentation:
        """Face crop, random resized crop, flip and RandAugment."""
        size, area, ops = self.config.data.input_size, self.config.min_crop_area, self.config.randaugment_ops
        return CropAugmentation(size, min_crop_area=area, randaugment_ops=ops, pre_crop=self._face_crop)

    def preprocessing(self) -> Preprocess:
        """Face crop and resize."""
        return partial(face_input, face_crop=self._face_crop, input_size=self.config.data.input_size)

    def prepare(self, image: Image) -> PreparedImage:
        """The same, with the box of the face that was taken where faces are detected."""
        return prepare_face(image, face_crop=self._face_crop, input_size=self.config.data.input_size)

    def collate(self) -> Collate[Attributes]:
        """Attribute values."""
        return attribute_targets

    def loss(self, outputs: Logits, targets: AttributeTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """Weighted binary cross-entropy."""
        self._positive_weights = self._positive_weights.to(outputs.logits.device)  # cached
        return attribute_loss(outputs, targets, self._positive_weights)

    def probabilities(self, outputs: Logits) -> Tensor:
        """The attributes' probabilities, (N, K)."""
        return attribute_probabilities(outputs, self._positive_weights)

    def decode(self, outputs: Logits) -> list[Attributes]:
        """The attributes' probabilities."""
        return decode_attributes(self.probabilities(outputs))

    def metric(self) -> AttributesMetric:
        """Mean average precision."""
        return AttributesMetric(self.attribute_names, self.threshold)

    def failure_case(self, predicted: Attributes, truth: Attributes) -> FailureCase[Attributes] | None:
        """The most confident wrong attribute."""
        is_present = truth.values > 0.5
        is_wrong = (predicted.values >= self.threshold) != is_present
        if not is_wrong.any():
            return None
        confidence = np.where(is_present, 1 - predicted.values, predicted.values) * is_wrong  # in the wrong value
        column = int(confidence.argmax())
        negation, actual = ("no ", "present") if is_present[column] else ("", "absent")
        return FailureCase(float(confidence[column]), f"{negation}{self.attribute_names[column]}: {actual}", predicted)

    def draw(self, image: Image, predicted: Attributes, truth: Attributes | None = None) -> Image:
        """The image beside its bar chart."""
        return draw_attributes(image, predicted, truth, self.attribute_names, self.threshold)

    def describe(self, predicted: Attributes, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The attributes' probabilities."""
        values = (round(float(value), 4) for value in predicted.values)
        return {"attributes": dict(zip(self.attribute_names, values, strict=True))}

    def summarize(self, predicted: Sequence[Attributes]) -> str:
        """The attributes with a probability of at least a half, such as "Smiling 0.93, Wearing Hat 0.61"."""
        if not predicted:
            return "no face found"
        faces = [self._summarize(face.values) for face in predicted]
        return faces[0] if len(faces) == 1 else f"{len(faces)} faces: {'; '.join(faces)}"

    def _summarize(self, values: NDArray[np.float32]) -> str:
        shown = [int(column) for column in np.argsort(-values, kind="stable") if values[column] >= MIN_PROBABILITY]
        words = [f"{self.attribute_names[column].replace('_', ' ')} {values[column]:.2f}" for column in shown]
        return ", ".join(words) or f"no attribute with a probability of {MIN_PROBABILITY:g} or more"

    def table(self, predicted: Sequence[Attributes]) -> dict[str, NDArray[Any]]:
        """A row for each face, with a column for each attribute."""
        values = np.array([face.values for face in predicted], np.float32).reshape(-1, len(self.attribute_names))
        return dict(zip(self.attribute_names, values.T, strict=True))


def _open(config: AttributesConfig) -> SplitData[AttributeImages]:
    data = config.data
    root = sample_root() if data.root is None else existing_folder(data.root)
    return open_attributes(root, Holdout.from_settings(data.val_fraction, data.fold))
