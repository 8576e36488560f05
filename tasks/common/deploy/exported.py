"""Exported files, run by ONNX Runtime; imports no torch."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.types import Image
from tasks.common.deploy.session import (
    INPUT,
    METADATA,
    SETTINGS,
    TASK,
    open_session,
    properties_of,
    stack_images,
)
from tasks.common.inference_task import InferenceTask
from tasks.common.legacy import upgrade_checkpoint
from tasks.registry import check_metadata

T = TypeVar("T")


class ExportedModel:
    """A file that `export` wrote; its outputs are predictions, or the network's own if it was exported with `--raw`.

    Attributes:
        path: of the file.
        task: name of the task that it was exported from.
        metadata: of the model (label map, ...).
        has_postprocessing: whether the outputs are predictions.
        settings: those that are built into the postprocessing, by dotted key.
        input_size: side of the square input in pixels.
        output_names: in order.
        digest: SHA-256 of the file.
    """

    def __init__(self, path: Path, *, task: str | None = None, num_threads: int | None = None) -> None:
        """Open a file.

        Args:
            path: the file.
            task: name of the expected task; None for any.
            num_threads: of ONNX Runtime; None for as many as there are cores.

        Raises:
            ValueError: if it cannot be read, was not written by `export`, lacks metadata, or is of another task.
        """
        self._session = open_session(path, num_threads)
        try:
            properties = upgrade_checkpoint(properties_of(self._session))
            self.task: str = properties[TASK]
            self.metadata: dict[str, Any] = dict(json.loads(properties[METADATA]))
            self.settings: dict[str, Any] = dict(json.loads(properties.get(SETTINGS, "{}")))
            self.input_size = int(self._session.get_inputs()[0].shape[-1])
        except (IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}: its properties {TASK}, {METADATA} and {SETTINGS} are missing or damaged; expected a file as "
                "`export` writes it; export the run again"
            ) from error
        if task not in (None, self.task):
            raise ValueError(f"{path}: was exported from the task {reprlib.repr(self.task)}, not from {task}")
        check_metadata(self.task, self.metadata, path)
        self.path = path
        self.has_postprocessing = SETTINGS in properties
        self.digest = hashlib.sha256(path.read_bytes()).digest()
        self.output_names = [output.name for output in self._session.get_outputs()]

    def check_labels(self, task: InferenceTask[Any]) -> None:
        """Raise a ValueError if the file computes something for more or fewer labels than the task's label map has."""
        sizes = task.label_sizes()
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        if not shapes.keys() & sizes.keys():
            shapes = _constant_shapes(self.path) if sizes else {}
        for name, (axis, size) in sizes.items():
            for found in shapes.get(name, [])[axis : axis + 1]:
                if isinstance(found, int) and found != size:
                    raise ValueError(
                        f"{self.path}: its label map does not fit its network: expected {size} values of `{name}`, "
                        f"found {found}; export the run again"
                    )

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """RGB images (N, 3, S, S) -> the outputs in order."""
        outputs: list[NDArray[Any]] = self._session.run(None, {INPUT: images})
        return outputs

    def __call__(self, pixels: Sequence[Image]) -> dict[str, NDArray[Any]]:
        """Preprocessed images (S, S, 3) -> the outputs by name, each with a row for each image."""
        return dict(zip(self.output_names, self.run(stack_images(pixels)), strict=True))


def _constant_shapes(path: Path) -> dict[str, list[int]]:
    """Of the constants in a file, by name.

    Raises:
        ValueError: if they cannot be read.
    """
    import onnx  # slow to import

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # of protobuf, whose types have no common public name
        raise ValueError(f"{path}: not a network that the package onnx can read; export the run again") from error
    return {constant.name: list(constant.dims) for constant in graph.initializer}


@dataclass(frozen=True)
class ExportedPredictor(Generic[T]):
    """Preprocessed images (S, S, 3) -> a prediction for each, by an exported file with its postprocessing inside."""

    task: InferenceTask[T]
    model: ExportedModel

    def __call__(self, pixels: Sequence[Image]) -> list[T]:
        """The predictions."""
        return self.task.read_outputs(self.model(pixels))

    def digest(self, settings: Any) -> str:
        """A hash of the network and of JSON-serialisable settings."""
        return hashlib.sha256(f"{self.model.digest.hex()} {json.dumps(settings)}".encode()).hexdigest()
