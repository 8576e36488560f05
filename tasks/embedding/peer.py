"""`python -m tasks.embedding peer`: another network's embeddings, scored on the very same photos as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.types import Face
from tasks.common.commands import out_folder, report, warn_of_repairs
from tasks.common.evaluate import evaluation_loader, readable_batches
from tasks.common.parser import Arguments
from tasks.common.progress import Progress
from tasks.common.task import Task

# ImageNet's, which most networks that were made with torch expect, in shares of 255.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def peer(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Score an ONNX file on the validation photos."""
    options = arguments.options
    network = _Network(Path(options["onnx"]))
    task = task_class.from_published(arguments.config)
    if task.config.data.input_size != network.input_size:
        raise ValueError(f"data.input_size: {options['onnx']} takes {network.input_size}")
    source, metric = task.source("val"), task.metric()
    warn_of_repairs(source)
    with Progress("embedding", len(source)) as progress:
        for batch in readable_batches(task, evaluation_loader(task, source, batch_size=8)):
            metric.update([Face(embedding=network(image)) for image in batch.images.numpy()], batch.truth)
            progress.advance(len(batch.ids))
    folder = out_folder(task, options, "peer")
    report(metric, len(source), folder, f"{options['onnx']}, {len(source)} photos", as_json=options["json"])
    return 0


class _Network:
    """An ONNX file: pixels (1, 3, S, S) with ImageNet's mean and deviation -> (1, D)."""

    def __init__(self, path: Path) -> None:
        import onnxruntime  # slow to import

        if not path.is_file():
            raise ValueError(f"--onnx: there is no file {path}")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception of its own for each kind of damage
            raise ValueError(f"--onnx: {path}: not a network that ONNX Runtime can read ({error})") from error
        (inputs,) = self._session.get_inputs()
        self._name, self.input_size = inputs.name, inputs.shape[-1]

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB (3, S, S) -> a vector of length 1."""
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
        (embedding,) = self._session.run(None, {self._name: ((image / np.float32(255) - mean) / std)[None]})[0]
        unit: NDArray[np.float32] = embedding / np.linalg.norm(embedding)
        return unit
