"""Attributes without a network: data, metric, pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.celeba import AttributeImages, open_attributes
from datasets.sample.attributes import sample_root
from datasets.shards.find import open_root
from datasets.splits import Holdout, SplitData
from datasets.types import Attributes, Image, Split
from datasets.words import plural, some
from tasks.attributes.config import AttributesConfig
from tasks.attributes.draw import draw_attributes
from tasks.attributes.metric import AttributesMetric
from tasks.common.agreement import Agreement, divergence
from tasks.common.face_inference import FaceInference
from tasks.common.inference_task import FailureCase
from tasks.common.runs.threshold import resolve_threshold

MAX_LABELLED = 3  # attributes beside a face
MAX_SUMMARIZED = 6  # faces in a line


class AttributesInference(FaceInference[Attributes]):
    """Attributes, of which an image may have several."""

    name = "attributes"
    metadata_keys = ("attribute_names", "prevalence")
    score_name = "mean_ap"

    def __init__(self, config: AttributesConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `attribute_names` and their `prevalence` in the training images."""
        super().__init__(config, metadata)
        self.attribute_names: list[str] = metadata["attribute_names"]
        self.threshold = resolve_threshold(config.threshold, run=None)  # `load_model` has looked up what is no number

    @classmethod
    def check_metadata(cls, metadata: Mapping[str, Any]) -> None:
        """Read the prevalence of the attributes."""
        if np.array(metadata["prevalence"], float).shape != (len(metadata["attribute_names"]),):
            raise ValueError("there are not as many values of prevalence as attribute_names")

    def _open_data(self) -> SplitData[AttributeImages]:
        return open_data(self.config)

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

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[Attributes]:
        """The attributes' probabilities."""
        return [Attributes(row) for row in outputs["probabilities"]]

    def agreement(self, reference: Sequence[Attributes], predicted: Sequence[Attributes]) -> Agreement:
        """The fraction of attributes on the same side of the threshold, and the divergence of an attribute."""
        p, q = (np.stack([face.values for face in faces]) for faces in (reference, predicted))
        is_same = (p >= self.threshold) == (q >= self.threshold)
        return Agreement(float(is_same.mean()), divergence(np.stack([p, 1 - p], -1), np.stack([q, 1 - q], -1)))

    def predictor_settings(self) -> dict[str, Any]:
        """The preprocessing and the names, see `InferenceTask`."""
        return super().predictor_settings() | {"names": self.attribute_names}

    def label_sizes(self) -> dict[str, tuple[int, int]]:
        """A value for each attribute, see `InferenceTask`."""
        return dict.fromkeys(("logits", "probabilities"), (1, len(self.attribute_names)))

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
        faces = [self._summarize(face.values) for face in predicted[:MAX_SUMMARIZED]]
        if len(predicted) == 1:
            return faces[0] or f"no attribute with a probability of {self.threshold:g} or more"
        num_more = len(predicted) - len(faces)
        parts = [face or "none" for face in faces] + [f"and {num_more} more"] * (num_more > 0)
        return f"{len(predicted)} faces: {'; '.join(parts)}"

    def _summarize(self, values: NDArray[np.float32]) -> str:
        shown = [int(column) for column in np.argsort(-values, kind="stable") if values[column] >= self.threshold]
        return ", ".join(f"{self.attribute_names[column].replace('_', ' ')} {values[column]:.2f}" for column in shown)

    def table(self, predicted: Sequence[Attributes]) -> dict[str, NDArray[Any]]:
        """A row for each face, with a column for each attribute."""
        values = np.array([face.values for face in predicted], np.float32).reshape(-1, len(self.attribute_names))
        return dict(zip(self.attribute_names, values.T, strict=True))


def open_data(config: AttributesConfig) -> SplitData[AttributeImages]:
    """The configured data."""
    data = config.data
    root = sample_root() if data.root is None else open_root(data.root)
    return open_attributes(root, Holdout.from_settings(data.val_fraction, data.fold))
