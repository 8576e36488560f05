"""`python -m tasks.geolocation index`: a run folder whose network has a gallery of the training photos."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from datasets.words import plural
from tasks.common.cli.parser import Arguments
from tasks.common.evaluation.scoring import warn_about_data
from tasks.common.runs import checkpoint
from tasks.common.runs.folder import new_run
from tasks.common.runs.pretrained import adopt_settings, describe_weights, open_pretrained


def index(task_class: type[Any], arguments: Arguments) -> int:
    """Compute the features of the training photos and save them as a run."""
    config = dataclasses.replace(arguments.config, method="retrieval")
    weights = open_pretrained(config, task_class.name)
    if weights is not None:
        config = adopt_settings(config, weights, task_class.name, arguments.given | {"method"})
        print(describe_weights(weights, config), file=sys.stderr)
    task = task_class.with_gallery(config)
    source = task.source("train")
    warn_about_data(source)
    if config.pretrained == "none":
        print("features of random weights; set --pretrained for useful ones", file=sys.stderr)
    model = task.build_model()
    run = new_run(task, arguments.options["run_dir"])
    content = {"task": task.name, "metadata": dict(task.metadata), "model": model.state_dict()}
    checkpoint.save_best(run, content)
    score_it = f"python -m tasks.{task.name} evaluate --run {run}"
    print(f"{plural(len(source), 'photo')} in {run}; score it: {score_it}", file=sys.stderr)
    return 0
