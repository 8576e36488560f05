"""The attributes task: its data, model, loss, metric and drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from backbone import faceres
from backbone.weights import Weights
from datasets.celeba import AttributeImages, open_attributes
from datasets.files import existing_folder
from datasets.loader import Collate
from datasets.sample.attributes import sample_root
from datasets.splits import Holdout, SplitData
from datasets.types import Attributes, Image, Split
from datasets.words import plural, some
from tasks.attributes.config import AttributesConfig
from tasks.attributes.draw import draw_attributes
from tasks.attributes.loss import AttributeTargets, attribute_loss, attribute_targets, positive_weights
from tasks.attributes.metric import AttributesMetric
from tasks.attributes.model import AGE_GROUPS, AttributeNet, attribute_probabilities, decode_attributes
from tasks.attributes.transfer import is_attributes, load_head
from tasks.common.face_task import FaceTask
from tasks.common.model.logits import Logits
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runs.threshold import resolve_threshold
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase
from tasks.common.weights import TaskWeights

CELEBA_NUM_ATTRIBUTES = 40  # the paper does not state the number in its own data

MAX_LABELLED = 3  # attributes beside a face


class AttributesTask(FaceTask[Attributes]):
    """A backbone and a probability for each attribute."""

    name = "attributes"
    score_name = "mean_ap"

    def __init__(self, config: AttributesConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `attribute_names` and their `prevalence` in the training images."""
        super().__init__(config, metadata)
        self.attribute_names: list[str] = metadata["attribute_names"]
        self._positive_weights = positive_weights(metadata["prevalence"], config.pos_weight_exponent)
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

    @classmethod
    def read_published(cls, path: Path) -> TaskWeights | None:
        """Gender and age of the published face network, see `backbone.faceres`.

        Raises:
            ValueError: if the file is damaged, or an `.npz` file of another network.
        """
        network = faceres.read_faceres(path)
        if network is None:
            return None
        state = {f"backbone.{name}": tensor for name, tensor in network.backbone.items()}
        for name, pair in (("hidden", network.hidden), ("ages", network.age), ("others", network.gender)):
            state |= {f"head.{name}.{kind}": tensor for kind, tensor in zip(("weight", "bias"), pair, strict=True)}
        names = ["Male", *AGE_GROUPS]
        return TaskWeights(
            state=state,
            conventions=faceres.CONVENTIONS,
            origin=str(path),
            task=cls.name,
            metadata={"attribute_names": names, "prevalence": [0.5] * len(names)},  # the loss had no weights
            settings={**faceres.SETTINGS, "head": "ages"},
        )

    def build_model(self) -> AttributeNet:
        """The network with the configured weights: a backbone's, or those of a model of attributes where they fit."""
        weights = open_pretrained(self.config, self.name)
        network = self._build(weights)
        if is_attributes(weights):
            load_head(network, weights, self.attribute_names)
        return network

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and the head with the attributes that it knows."""
        kept = super().kept(weights)
        return kept | load_head(self._build(weights), weights, self.attribute_names) if is_attributes(weights) else kept

    def _build(self, weights: Weights | None) -> AttributeNet:
        backbone = build_pretrained(self.config, weights)
        return AttributeNet(backbone, self.attribute_names, has_ages=self.config.head == "ages")

    def _open_data(self) -> SplitData[AttributeImages]:
        return _open(self.config)

    def source(self, split: Split) -> AttributeImages:
        """The images of a split, with the task's attributes as columns; see `AttributeImages.with_attributes`.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if they cannot be read, or have none of the task's attributes.
        """
        source: AttributeImages = self.data[split]
        if list(source.attribute_names) != self.attribute_names:
            source = self._with_own_attributes(source)
        source.decoding = self.decoding
        return source

    def _with_own_attributes(self, source: AttributeImages) -> AttributeImages:
        """The images with the model's attributes; those that the data do not have are neither scored nor counted."""
        num_data, num_model = len(source.attribute_names), len(self.attribute_names)
        shared = [name for name in self.attribute_names if name in source.attribute_names]
        if not shared:
            raise ValueError(
                f"the data have {plural(num_data, 'attribute')} ({', '.join(source.attribute_names[:3])}, ...), and "
                f"the model knows none of them: it has {num_model} ({', '.join(self.attribute_names[:3])}, ...)"
            )
        mapped = source.with_attributes(self.attribute_names)
        if len(shared) < max(num_data, num_model):
            mapped.warnings = [
                *mapped.warnings,
                f"scored on {some(shared, 'attribute')}, which the data ({num_data}) and the model ({num_model}) share",
            ]
        return mapped

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
        is_wrong &= ~np.isnan(truth.values)  # unknown
        if not is_wrong.any():
            return None
        confidence = np.where(is_present, 1 - predicted.values, predicted.values) * is_wrong  # in the wrong value
        column = int(confidence.argmax())
        negation, actual = ("no ", "present") if is_present[column] else ("", "absent")
        return FailureCase(float(confidence[column]), f"{negation}{self.attribute_names[column]}: {actual}", predicted)

    def draw(self, image: Image, predicted: Attributes, truth: Attributes | None = None) -> Image:
        """The image beside its bar chart."""
        return draw_attributes(image, predicted, truth, self.attribute_names, self.threshold)

    def face_label(self, predicted: Attributes, number: int) -> str:
        """The most probable attributes above the threshold; without any, the face's number."""
        best_first = np.argsort(-predicted.values, kind="stable")[:MAX_LABELLED].tolist()
        names = [self.attribute_names[column] for column in best_first if predicted.values[column] >= self.threshold]
        return ", ".join(names).replace("_", " ") or str(number)

    def describe(self, predicted: Attributes, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The attributes' probabilities."""
        values = (round(float(value), 4) for value in predicted.values)
        return {"attributes": dict(zip(self.attribute_names, values, strict=True))}

    def summarize(self, predicted: Sequence[Attributes]) -> str:
        """The attributes with a probability of at least `threshold`, such as "Smiling 0.93, Wearing Hat 0.61"."""
        if not predicted:
            return "no face found"
        faces = [self._summarize(face.values) for face in predicted]
        return faces[0] if len(faces) == 1 else f"{len(faces)} faces: {'; '.join(faces)}"

    def _summarize(self, values: NDArray[np.float32]) -> str:
        shown = [int(column) for column in np.argsort(-values, kind="stable") if values[column] >= self.threshold]
        words = [f"{self.attribute_names[column].replace('_', ' ')} {values[column]:.2f}" for column in shown]
        return ", ".join(words) or f"no attribute with a probability of {self.threshold:g} or more"

    def table(self, predicted: Sequence[Attributes]) -> dict[str, NDArray[Any]]:
        """A row for each face, with a column for each attribute."""
        values = np.array([face.values for face in predicted], np.float32).reshape(-1, len(self.attribute_names))
        return dict(zip(self.attribute_names, values.T, strict=True))


def _open(config: AttributesConfig) -> SplitData[AttributeImages]:
    data = config.data
    root = sample_root() if data.root is None else existing_folder(data.root)
    return open_attributes(root, Holdout.from_settings(data.val_fraction, data.fold))
