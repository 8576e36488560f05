"""`predict`: draw and write predictions for the user's images and videos."""

from __future__ import annotations

import sys
from typing import Any

from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.predict import find_files, predict_files
from tasks.common.runs.folder import out_folder
from tasks.common.runs.load import load_model
from tasks.common.task import Task


def predict(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Draw and write predictions for images and videos."""
    options = arguments.options
    paths = find_files(options["inputs"])
    task, model = load_model(task_class, arguments.config, options["run"])
    folder = out_folder(task, "predict", out=options["out"], run=options["run"])
    num_images = predict_files(task, model, paths, folder)
    print(f"wrote predictions for {num_images} image{'s' if num_images > 1 else ''} to {folder}", file=sys.stderr)
    return 0
