"""`evaluate`: score a run or published weights on a split, with tables and pictures."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.files import write_json
from datasets.sources import Source
from datasets.splits import MissingSplitError
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.session import MODEL
from tasks.common.evaluation.failure_cases import FailureCases
from tasks.common.evaluation.record import append_record
from tasks.common.evaluation.report import metrics_as_json, print_metrics
from tasks.common.evaluation.scoring import Evaluation, describe_images, draw_examples, warn_about_data
from tasks.common.evaluation.thresholds import write_thresholds
from tasks.common.inference_task import InferenceTask
from tasks.common.prediction.open import load_model
from tasks.common.prediction.score import score
from tasks.common.runs.card import add_scores
from tasks.common.runs.folder import (
    METRICS,
    PICTURE,
    check_out_folder,
    check_writable,
    explain_full_disk,
    out_folder,
    same_again,
)
from tasks.common.runs.threshold import newest_table
from tasks.common.runtime.launch import process_rank
from tasks.common.settings import CONFIG, read_config
from tasks.common.thresholds import THRESHOLDS

if TYPE_CHECKING:
    from tasks.common.runtime.distributed import World


def evaluate(name: str, arguments: Arguments) -> int:
    """Score a run's best checkpoint, or published weights, on a split; under `torchrun`, with all its processes."""
    if process_rank()[1] == 1:
        return _evaluate(name, arguments, None)
    from tasks.common.runtime.device import uses_cuda  # torch is slow to import, and one process may need none
    from tasks.common.runtime.distributed import join_world

    with join_world(on_gpu=uses_cuda(arguments.config.loop)) as world:
        return _evaluate(name, arguments, world)


def _evaluate(name: str, arguments: Arguments, world: World | None) -> int:
    options = arguments.options
    split = options["split"]
    check_out_folder(name, out=options["out"], run=options["run"])
    if options["record"]:
        check_writable(Path(options["record"]).parent, "--record")
    model = load_model(name, arguments.config, options["run"], arguments.given)
    task, predictor = model.task, model.predictor
    if options["record"] and options["run"] and (Path(options["run"]) / MODEL).is_file():
        raise ValueError("--record: only for trained networks; an exported network's scores are in its export.json")
    source = task.source(split)
    is_main = world is None or world.is_main
    if world is not None:
        world.check_same({f"list of {split} images": describe_images(source)})
    if is_main:
        warn_about_data(source)
    if is_main and options["run"] and split == "val":
        _warn_about_training_images(task, source, Path(options["run"]))
    failure_cases = FailureCases(task)
    evaluation = score(predictor, source, failure_cases, world)
    if not is_main:
        return 0
    folder = out_folder(task, f"evaluate-{split}", out=options["out"], run=options["run"])
    model_name = options["run"] or arguments.config.pretrained
    title, as_json = f"{model_name}, {evaluation.num_images} {split} images", options["json"]
    with explain_full_disk(folder, same_again):
        draw_examples(task, predictor, source, folder / PICTURE)
        failure_cases.write(source, folder)
        metrics = report(evaluation, folder, title, as_json=as_json, run=options["run"])
        if options["run"] and options["out"] is None:
            add_scores(task, Path(options["run"]), split, evaluation.scores, evaluation.num_images)
    if options["record"]:
        if evaluation.num_unreadable:
            raise ValueError(
                f"--record: {evaluation.num_unreadable} of the {len(source)} {split} images are unreadable, so the "
                "scores are not comparable with those of the whole split; repair or remove the files first"
            )
        append_record(Path(options["record"]), task.name, arguments.config, metrics, split)
    return 0


def _warn_about_training_images(task: InferenceTask[Any], source: Source[Any], run: Path) -> None:
    """Warn if validation images are held out in another way than by the run, which was then trained on some of them."""
    data, of_run = task.config.data, read_config(type(task.config), run / CONFIG).data
    holdout = {key: getattr(of_run, key) for key in ("val_fraction", "fold")}
    if data.root != of_run.root or dataclasses.replace(data, **holdout) == data:
        return
    config = dataclasses.replace(task.config, data=dataclasses.replace(data, **holdout))
    try:
        trained_on = type(task)(config, task.metadata).source("train")
    except MissingSplitError:  # a distillation on other images
        return
    ids = {trained_on.id(row) for row in range(len(trained_on))}
    num_seen = sum(source.id(row) in ids for row in range(len(source)))
    if num_seen:
        setting = f"fold {of_run.fold}" if of_run.fold else f"val_fraction {json.dumps(of_run.val_fraction)}"
        warnings.warn(
            f"{run} was trained on {num_seen} of these {len(source)} images (with data.{setting}); new images score "
            "lower",
            stacklevel=2,
        )


def report(
    evaluation: Evaluation[Any], folder: Path, title: str, *, as_json: bool, run: str | None = None
) -> dict[str, Any]:
    """Write scores and details to a folder; print the scores as a table or as JSON and return them with the counts.

    Args:
        evaluation: to report.
        folder: an existing one.
        title: of the printed table.
        as_json: whether to print JSON.
        run: that was evaluated, if any.
    """
    content = metrics_as_json(evaluation.scores, evaluation.counts)
    classes = evaluation.metric.count_at_thresholds()
    best = write_thresholds(classes, folder)
    if classes:
        content["threshold"] = None if best is None else best.threshold
    write_json(folder / METRICS, content)
    evaluation.metric.write_details(folder)
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        print_metrics(evaluation.scores, title)
        if best is not None:
            is_looked_up = run is not None and newest_table(Path(run)) == folder / THRESHOLDS
            value = "f1" if is_looked_up else f"{best.threshold:g}"
            print(
                f"threshold {best.threshold:g} has the highest F1, {best.f1:.3f} (precision {best.precision:.3f}, "
                f"recall {best.recall:.3f}); predict takes it by --threshold {value}"
            )
    print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}", file=sys.stderr)
    return content
