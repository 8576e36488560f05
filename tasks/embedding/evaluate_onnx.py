"""`python -m tasks.embedding evaluate_onnx`: the scores of an external embedding network on the validation photos."""

from __future__ import annotations

from pathlib import Path

from datasets.types import Face
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.onnx_network import OnnxNetwork
from tasks.common.evaluation.evaluate import evaluate_source, warn_about_data
from tasks.common.runs.folder import out_folder
from tasks.common.task import Task
from tasks.common.verbs.evaluate import report
from tasks.embedding.model import EmbeddingWrapper


def evaluate_onnx(task_class: type[Task[Face]], arguments: Arguments) -> int:
    """Evaluate an ONNX file on the validation photos."""
    options = arguments.options
    network = OnnxNetwork(Path(options["onnx"]))
    task = task_class.with_num_classes(arguments.config, None)
    if task.config.data.input_size != network.input_size:
        raise ValueError(f"data.input_size: {options['onnx']} takes {network.input_size}")
    source = task.source("val")
    warn_about_data(source)
    evaluation = evaluate_source(task, EmbeddingWrapper(network), source, "evaluating")
    folder = out_folder(task, "evaluate_onnx", out=options["out"])
    report(evaluation, folder, f"{options['onnx']}, {evaluation.num_images} photos", as_json=options["json"])
    return 0
