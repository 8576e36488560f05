"""What a task needs for predictions and scores besides a network; imports no torch, for exported networks.

A task's class for inference is in its `inference.py`; `Task`, in `tasks/common/task.py`, adds the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.drawing.boxes import draw_faces
from datasets.files import write_json
from datasets.images.read import Decoding
from datasets.sources import Preprocess, Source
from datasets.splits import SplitData
from datasets.types import DetectedFace, Image, PreparedImage, Split
from datasets.words import some
from tasks.common.agreement import Agreement
from tasks.common.thresholds import ThresholdCounts

T = TypeVar("T")  # the type of a task's truth and predictions, from `datasets.types`
Predict = Callable[[Sequence[Image]], list[T]]  # preprocessed images (S, S, 3) -> a prediction for each
BATCH_SIZE = 8  # images at once, where nothing is trained
METADATA = "metadata.json"  # in a run folder


class FailureCase(NamedTuple, Generic[T]):
    """The most confident error of a prediction.

    Attributes:
        confidence: of the prediction, in [0, 1].
        what: a short description of the error.
        predicted: the wrong part of the prediction.
    """

    confidence: float
    what: str
    predicted: T


class Metric(ABC, Generic[T]):
    """Scores over a split, updated batch by batch; it stores no more of the predictions than the scores need."""

    @abstractmethod
    def update(self, predicted: Sequence[T], truth: Sequence[T]) -> None:
        """Add the predictions of a batch and their ground truth."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add the state of a metric over the images that follow; the scores equal those of one metric over all."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scores by name; a score that is not defined is NaN."""

    @abstractmethod
    def write_details(self, folder: Path) -> None:
        """Write tables and plots that go beyond the scores."""

    def count_at_thresholds(self) -> Sequence[ThresholdCounts]:
        """True and false positives of each class by threshold; none where predictions have no threshold."""
        return ()


class InferenceTask(ABC, Generic[T]):
    """One kind of prediction: its data, the network's inputs, its metric, drawings and texts.

    Attributes:
        name: of the package, for example `detection`.
        metadata_keys: what a model's metadata must have.
        score_name: the score that selects the best checkpoint; higher is better.
        config: the settings, a `TaskConfig` with the task's own `data`.
        metadata: the label map and whatever else predictions need, as plain JSON; stored in every checkpoint.
    """

    name: str
    metadata_keys: tuple[str, ...] = ()
    score_name: str

    def __init__(self, config: Any, metadata: Mapping[str, Any]) -> None:
        """Args: config: the settings; metadata: see above."""
        self.config = config
        self.metadata = metadata
        self._data: SplitData[Any] | None = None

    @classmethod
    def check_metadata(cls, metadata: Mapping[str, Any]) -> None:
        """Raise any error if a model's metadata, which have `metadata_keys`, cannot be read."""
        return

    @property
    def data(self) -> SplitData[Any]:
        """The data set, opened when first used."""
        if self._data is None:
            self._data = self._open_data()
        return self._data

    @abstractmethod
    def _open_data(self) -> SplitData[Any]:
        """Open the configured data set; each split is read when it is first used."""

    @property
    def decoding(self) -> Decoding:
        """How image files become pixels, at full size; a source whose crops need less may decode smaller ones."""
        return Decoding(pixel_range=self.config.data.pixel_range)

    @abstractmethod
    def source(self, split: Split) -> Source[T]:
        """The examples of a split as stored; its `warnings` list what was repaired or skipped."""

    def with_settings(self, config: Any) -> Self:
        """The same task, with its data as read, for other settings of the network."""
        task = type(self)(config, self.metadata)
        task._data = self._data
        return task

    @abstractmethod
    def preprocessing(self) -> Preprocess:
        """A function from an image (H, W, 3) to the network's input (S, S, 3); it is pickled for loader processes."""

    def prepare(self, image: Image) -> list[PreparedImage]:
        """The network's input for each prediction that an image gets: one, or one for each detected face."""
        return [PreparedImage(self.preprocessing()(image))]

    @abstractmethod
    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[T]:
        """One prediction per image, from the outputs of an exported network with its postprocessing inside."""

    def predictor_settings(self) -> dict[str, Any]:
        """What `predictor.py` beside an exported file needs: how a photo becomes an input, and names; plain JSON."""
        pixel_range = self.config.data.pixel_range
        return {"task": self.name, "part": [0, 0, 1, 1], "pixel_range": pixel_range and list(pixel_range)}

    def label_sizes(self) -> Mapping[str, tuple[int, int]]:
        """How long an axis of an exported file's output must be to fit the label map: name -> (axis, size).

        Those that a file does not have do not matter; one that has none of them may have them as constants.
        """
        return {}

    def write_extra_files(self, folder: Path) -> None:
        """Write other files that `predictor.py` needs beside an exported file."""

    def agreement(self, reference: Sequence[T], predicted: Sequence[T]) -> Agreement:
        """How nearly the predictions of two networks for the same images are the same."""
        return Agreement(float(np.mean([a == b for a, b in zip(reference, predicted, strict=True)])), None)

    @property
    def agreement_caveat(self) -> str | None:
        """What to know about the agreement on training images, in words; None for nothing."""
        return None

    @abstractmethod
    def metric(self) -> Metric[T]:
        """A new, empty metric."""

    def failure_case(self, predicted: T, truth: T) -> FailureCase[T] | None:
        """The most confident error of a prediction; None if it is correct."""
        return None

    @abstractmethod
    def draw(self, image: Image, predicted: T, truth: T | None = None) -> Image:
        """A copy of the image with the prediction drawn, and the truth beside it if given."""

    def draw_failure_case(self, image: Image, case: FailureCase[T], truth: T) -> Image:
        """A picture of a failure case beside the truth."""
        return self.draw(image, case.predicted, truth)

    @abstractmethod
    def describe(self, predicted: T, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The prediction for an image of that size as a JSON record."""

    def in_image(self, predicted: T, image_hw: tuple[int, int]) -> T:
        """The prediction as users get it: in pixels of an image of that size, without what is below the threshold."""
        return predicted

    def summarize(self, predicted: Sequence[T]) -> str:
        """The predictions for an image in a line; there are several, or none, where faces are detected."""
        return ", ".join(map(str, predicted))

    def table(self, predicted: Sequence[T]) -> dict[str, NDArray[Any]]:
        """The predictions for an image as columns of equal length, whose names and types are always the same."""
        return {"prediction": np.array([*predicted, None], object)[:-1]}

    def draw_all(self, image: Image, predicted: Sequence[T], faces: Sequence[DetectedFace]) -> Image:
        """A copy of the image with its prediction drawn, or with all its faces and a short label of each.

        Args:
            image: (H, W, 3).
            predicted: one for the image, or one for each face, of which there may be none.
            faces: that were detected; empty where the task has no face detector.
        """
        if len(faces) != len(predicted):
            (only,) = predicted
            return self.draw(image, only)
        labels = [self.face_label(one, number) for number, one in enumerate(predicted, 1)]
        return draw_faces(image, [face.box_xyxy for face in faces], labels)

    def describe_all(
        self, predicted: Sequence[T], faces: Sequence[DetectedFace], image_hw: tuple[int, int]
    ) -> dict[str, Any]:
        """The prediction for an image of that size as a JSON record, or those for its `faces`; see `draw_all`."""
        if len(faces) != len(predicted):
            (only,) = predicted
            return self.describe(only, image_hw)
        records = [face.to_record() | self.describe(one, image_hw) for face, one in zip(faces, predicted, strict=True)]
        return {"faces": records}

    def face_label(self, predicted: T, number: int) -> str:
        """A short label of a detected face: by default its number in the image, from 1."""
        return str(number)

    def write_metadata(self, folder: Path) -> None:
        """Write the metadata as human-readable files."""
        write_json(folder / METADATA, dict(self.metadata))


def predict_all(predict: Predict[T], images: Sequence[Image]) -> list[T]:
    """The predictions for any number of images, in batches."""
    batches = (images[first : first + BATCH_SIZE] for first in range(0, len(images), BATCH_SIZE))
    return [prediction for batch in batches for prediction in predict(batch)]


def require_same_classes(found: Sequence[str], expected: Sequence[str], root: Path | str) -> None:
    """Raise a ValueError if the classes of the data in a folder are not those of the model, in the same order."""
    if list(found) != list(expected):
        raise ValueError(
            f"{root}: the data have {some(found, 'class')}, but the model has {some(expected, 'class')}; expected the "
            "same names in the same order; choose other data, or train on these"
        )
