"""The throughput of `predict`: from the files of photos to records, and to what else is written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tasks.common.deploy.exported import ExportedModel, ExportedPredictor
from tasks.common.deploy.onnx_file import add_postprocessing
from tasks.common.prediction.files import PredictionFiles, SaveFormat
from tasks.common.prediction.model import Model
from tasks.common.prediction.pipeline import predict_sources
from tasks.common.prediction.sources import Source
from tasks.common.task import Task
from tasks.registry import inference_class


def exported_model(task: Task[Any], network: nn.Module, path: Path, num_threads: int | None = None) -> Model[Any]:
    """What predicts by an ONNX file, as `load` returns it for the folder of an export.

    Args:
        task: of the network.
        network: the original.
        path: the file, with raw outputs; it is replaced by one with the postprocessing inside.
        num_threads: of ONNX Runtime; None for as many as there are cores.

    Raises:
        ValueError: if there is no postprocessing for the network.
    """
    add_postprocessing(path, task.postprocessing(network), task)
    inference = inference_class(task.name)(task.config, task.metadata)
    return Model(inference, ExportedPredictor(inference, ExportedModel(path, num_threads=num_threads)))


def prediction_seconds(
    model: Model[Any], sources: Sequence[Source], formats: Collection[SaveFormat], out: Path
) -> float:
    """The time that the verb `predict` takes for photos.

    Args:
        model: that predicts.
        sources: of the photos, from `find_sources`.
        formats: what is written beside the records.
        out: an empty folder for it.
    """
    started = time.perf_counter()
    with PredictionFiles(out, "", formats) as files:
        predict_sources(model, sources, files)
    return time.perf_counter() - started


def photos_per_second(model: Model[Any], sources: Sequence[Source]) -> float:
    """Photos from their files to records alone; the first ones are predicted before, to load what that needs."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as out:
        prediction_seconds(model, sources[:8], ["none"], Path(first))
        return len(sources) / prediction_seconds(model, sources, ["none"], Path(out))
