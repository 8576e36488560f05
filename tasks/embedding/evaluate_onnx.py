"""`python -m tasks.embedding evaluate_onnx`: the scores of an external embedding network on the validation photos."""

from __future__ import annotations

from pathlib import Path

from torch.nn import functional

from datasets.types import Face
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.onnx_network import OnnxNetwork
from tasks.common.evaluation.evaluate import Evaluation, evaluation_loader, readable_batches, warn_about_data
from tasks.common.runs.folder import out_folder
from tasks.common.runtime.progress import Progress
from tasks.common.task import Task
from tasks.common.verbs.evaluate import report


def evaluate_onnx(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Evaluate an ONNX file on the validation photos."""
    options = arguments.options
    network = OnnxNetwork(Path(options["onnx"]))
    task = task_class.from_published(arguments.config)
    if task.config.data.input_size != network.input_size:
        raise ValueError(f"data.input_size: {options['onnx']} takes {network.input_size}")
    source, metric, num_photos = task.source("val"), task.metric(), 0
    warn_about_data(source)
    with Progress("embedding", len(source)) as progress:
        for batch in readable_batches(task, evaluation_loader(task, source, batch_size=8)):
            if not len(batch):
                continue
            embeddings = functional.normalize(network(batch.images)).numpy()
            metric.update([Face(embedding=embedding) for embedding in embeddings], batch.truth)
            num_photos += len(batch)
            progress.advance(len(batch) + len(batch.unreadable))
    evaluation = Evaluation(metric.compute(), num_photos, len(source) - num_photos, metric)
    folder = out_folder(task, "evaluate_onnx", out=options["out"])
    report(evaluation, folder, f"{options['onnx']}, {num_photos} photos", as_json=options["json"])
    return 0
