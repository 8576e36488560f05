"""Exported files with their postprocessing inside, run by ONNX Runtime; imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.types import Image
from tasks.common.deploy.session import INPUT, METADATA, SETTINGS, TASK, open_session
from tasks.common.inference_task import InferenceTask

T = TypeVar("T")


def has_postprocessing(path: Path) -> bool:
    """Whether a file was written by `export` with its postprocessing inside, not with `--raw`.

    Raises:
        ValueError: if it cannot be read.
    """
    return SETTINGS in open_session(path).get_modelmeta().custom_metadata_map


class ExportedModel:
    """A file that `export` wrote, with its postprocessing inside.

    Attributes:
        task: name of the task that it was exported from.
        metadata: of the model (label map, ...).
        settings: those that are built into the file, by dotted key.
        input_size: side of the square input in pixels.
        digest: SHA-256 of the file.
    """

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        """Open a file.

        Args:
            path: the file.
            num_threads: of ONNX Runtime; None for as many as there are cores.

        Raises:
            ValueError: if it was not written by `export`, or without its postprocessing.
        """
        self._session = open_session(path, num_threads)
        properties = self._session.get_modelmeta().custom_metadata_map
        try:
            self.task: str = properties[TASK]
            self.metadata: dict[str, Any] = json.loads(properties[METADATA])
            self.settings: dict[str, Any] = json.loads(properties[SETTINGS])
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: its properties {TASK}, {METADATA} and {SETTINGS} are missing or damaged; expected a file as "
                "`export` writes it; export the run again"
            ) from error
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.input_size: int = self._session.get_inputs()[0].shape[-1]
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, pixels: Sequence[Image]) -> dict[str, NDArray[Any]]:
        """Preprocessed images (S, S, 3) -> the outputs by name, each with a row for each image."""
        images = np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2))
        return dict(zip(self._names, self._session.run(None, {INPUT: images}), strict=True))


@dataclass(frozen=True)
class ExportedPredictor(Generic[T]):
    """Preprocessed images (S, S, 3) -> a prediction for each, by an exported file."""

    task: InferenceTask[T]
    model: ExportedModel

    def __call__(self, pixels: Sequence[Image]) -> list[T]:
        """The predictions."""
        return self.task.read_outputs(self.model(pixels))

    def digest(self, settings: Any) -> str:
        """A hash of the network and of JSON-serialisable settings."""
        return hashlib.sha256(f"{self.model.digest} {json.dumps(settings)}".encode()).hexdigest()
