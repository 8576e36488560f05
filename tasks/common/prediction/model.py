"""A trained model that predicts on images: what `tasks.load` returns, and what `predict` uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from datasets.face_detection import NoFaceError
from datasets.images.read import UnreadableImageError
from datasets.types import Image, PreparedImage, Split
from datasets.web import public_name
from tasks.common.inference_task import BATCH_SIZE, InferenceTask, predict_all
from tasks.common.prediction.find import open_source
from tasks.common.prediction.result import Result
from tasks.common.prediction.sources import InputImage, Picture
from tasks.common.prediction.web import is_url
from tasks.common.runs.threshold import resolve_threshold
from tasks.common.settings import replace_settings

T = TypeVar("T")
Photo = str | Path | NDArray[Any] | PIL.Image.Image
Photos = list[Any] | tuple[Any, ...]  # not a Sequence of Photo, since a path is one, too
THRESHOLD = "threshold"


class Predictor(Protocol[T]):
    """Runs a network; several threads may do this at the same time."""

    def __call__(self, pixels: Sequence[Image], /) -> list[T]:
        """Preprocessed images (S, S, 3) -> a prediction for each."""

    def digest(self, settings: Any) -> str:
        """A hash of the network and of JSON-serialisable settings."""


class Model(Generic[T]):
    """A trained network with all that predictions need; several threads may use one model at the same time.

    Attributes:
        task: that it solves; its `metadata` has the names of the classes.
        predictor: runs the network.
        run: folder of the run or export that it is from; None for published weights.
    """

    def __init__(self, task: InferenceTask[T], predictor: Predictor[T], run: Path | None = None) -> None:
        """Args: task: that the model solves; predictor: runs its network; run: where thresholds are looked up."""
        self.task = task
        self.predictor = predictor
        self.run = run

    def __repr__(self) -> str:
        config = self.task.config
        return f"<{self.task.name}: {config.backbone.name} at {config.data.input_size} px>"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes or attributes, by id; empty for tasks without any."""
        metadata = self.task.metadata
        return tuple(metadata.get("class_names") or metadata.get("attribute_names") or ())

    @overload
    def __call__(self, photo: Photo, *, threshold: float | str | None = None) -> Result[T]: ...

    @overload
    def __call__(self, photo: Photos, *, threshold: float | str | None = None) -> list[Result[T]]: ...

    def __call__(self, photo: Photo | Photos, *, threshold: float | str | None = None) -> Result[T] | list[Result[T]]:
        """Predict on a photo, or on each of a list.

        Args:
            photo: the path or http(s) URL of an image file, a uint8 RGB array (H, W, 3), or a PIL image; or a list of
                them.
            threshold: lowest score of what is found, or `f1`, `precision=0.9` or `recall=0.8`, for which the run's
                thresholds.csv has the score; None for that of the settings.

        Raises:
            UnreadableImageError: (a ValueError) if an image cannot be read.
            ValueError: if a photo is none of these, or the task has no threshold.
        """
        photos = photo if isinstance(photo, list | tuple) else [photo]
        images = (self._open(one, number) for number, one in enumerate(photos))
        results = list(self.predict(images, threshold=threshold))
        return results if photos is photo else results[0]

    def stream(self, source: str | Path | int, *, threshold: float | str | None = None) -> Iterator[Result[T]]:
        """Predict on the images of a source, one after the other.

        Args:
            source: a folder, a glob, an image, a video, a text file with a path or URL a line, a URL, the number of a
                camera, or an rtsp address.
            threshold: lowest score of what is found, or `f1`, `precision=0.9` or `recall=0.8`, for which the run's
                thresholds.csv has the score; None for that of the settings.

        Yields:
            A result for each image or frame. Images that cannot be read are warned about.

        Raises:
            ValueError: if there is no such source, nothing in it can be read, or there is no such threshold.
        """
        model = self.with_threshold(threshold)
        for image in open_source(source, self.task.decoding):
            yield from model.predict([image])

    def predict(
        self, images: Iterator[InputImage] | Sequence[InputImage], *, threshold: float | str | None = None
    ) -> Iterator[Result[T]]:
        """The results of opened images, in batches."""
        model = self.with_threshold(threshold)
        arriving = iter(images)
        while batch := list(islice(arriving, BATCH_SIZE)):
            yield from model.predict_prepared(batch, [model._inputs(image) for image in batch])

    def _inputs(self, image: InputImage) -> list[PreparedImage]:
        """The same as `prepare`, and none where no face is found."""
        try:
            return self.prepare(image)
        except NoFaceError:
            return []

    def with_threshold(self, threshold: float | str | None) -> Model[T]:
        """The same model with another threshold; None for its own.

        Raises:
            ValueError: if the task has none, it is out of range, or the run has no score for it.
        """
        if threshold is None:
            return self
        if not hasattr(self.task.config, THRESHOLD):
            raise ValueError(f"{THRESHOLD}: tasks.{self.task.name} has none")
        config = replace_settings(self.task.config, {THRESHOLD: threshold})  # checks it
        config = replace_settings(config, {THRESHOLD: resolve_threshold(threshold, self.run)})
        return Model(self.task.with_settings(config), self.predictor, self.run)

    def evaluate(self, data: str | Path | None = None, split: Split = "val") -> dict[str, float | None]:
        """Score the model as the command `evaluate` does; nothing is written.

        Args:
            data: folder of images with their truth; None for that of the settings, such as what a run was trained on.
            split: train, val or test.

        Returns:
            The scores by name (None: not defined) and the counts of images.

        Raises:
            ValueError: if the data cannot be read, or have no such split.
        """
        from tasks.common.prediction.score import evaluate_model  # slow to import, and predictions do not need it

        return evaluate_model(self.task, self.predictor, data, split)

    def prepare(self, image: InputImage) -> list[PreparedImage]:
        """The network's inputs for an image: one, or one for each face where faces are detected."""
        return self.task.prepare(image.image)

    def predict_prepared(
        self, images: Sequence[InputImage], inputs: Sequence[Sequence[PreparedImage]]
    ) -> list[Result[T]]:
        """The results of images whose inputs are prepared.

        Args:
            images: the images.
            inputs: of each, from `prepare`.
        """
        pixels = [prepared.pixels for of_image in inputs for prepared in of_image]
        arriving = iter(predict_all(self.predictor, pixels))
        return [
            self._result(image, list(islice(arriving, len(of_image))), of_image)
            for image, of_image in zip(images, inputs, strict=True)
        ]

    def _result(self, image: InputImage, predicted: Sequence[T], inputs: Sequence[PreparedImage]) -> Result[T]:
        predictions = tuple(self.task.in_image(one, image.image.shape[:2]) for one in predicted)
        faces = tuple(one.face for one in inputs if one.face is not None)
        return Result(image, predictions, faces, self.task)

    def _open(self, photo: Photo, number: int) -> InputImage:
        """A photo given to `__call__`; its number in the list names it if nothing else does."""
        if isinstance(photo, str) and is_url(photo):
            return Picture(public_name(photo), photo).read(self.task.decoding)
        if isinstance(photo, str | Path):
            if Path(photo).is_dir():
                raise ValueError(f"{photo}: a folder; expected an image; `stream` takes folders and videos")
            return Picture(str(photo), Path(photo)).read(self.task.decoding)
        if isinstance(photo, PIL.Image.Image):
            name = getattr(photo, "filename", "") or f"image {number}"
            photo = _pixels(photo, name)
        else:
            name = f"array {number}"
        is_array = isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3
        if not is_array or photo.shape[2] != 3 or not photo.size:
            got = f"{photo.dtype} {photo.shape}" if isinstance(photo, np.ndarray) else type(photo).__name__
            raise ValueError(
                f"{name}: expected a path, a URL, a PIL image or an RGB array of uint8 (height, width, 3), got {got}"
            )
        return InputImage(name, None, photo)


def _pixels(photo: PIL.Image.Image, name: str) -> NDArray[np.uint8]:
    """The upright RGB pixels of a PIL image.

    Raises:
        UnreadableImageError: if its file is damaged, which Pillow reads only now.
        ValueError: if it has more than 8 bits, which Pillow would clip.
    """
    if photo.mode.startswith(("I", "F")):
        raise ValueError(
            f"{name}: a PIL image of mode {photo.mode}; expected 8 bits; give the path of its file, of which 16 bits "
            "are read"
        )
    try:
        return np.asarray(PIL.ImageOps.exif_transpose(photo).convert("RGB"))
    except OSError as error:
        raise UnreadableImageError(f"{name}: {error}") from error
