"""`prune`: a smaller run, with the most important channels or weights of a trained one."""

from __future__ import annotations

import dataclasses
import sys
from shlex import quote
from typing import Any

from datasets.files import write_json
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.inference import inference_cost
from tasks.common.evaluation.evaluate import evaluate_source
from tasks.common.evaluation.report import print_metrics
from tasks.common.evaluation.result import write_result
from tasks.common.evaluation.scoring import NO_IMAGES, NOT_HELD_OUT, validation_source
from tasks.common.runs.card import without_places, write_card
from tasks.common.runs.folder import check_out_folder, explain_full_disk, out_folder, same_again, write_settings
from tasks.common.runs.load import load_model, refuse_export
from tasks.common.runtime.extras import check_packages
from tasks.common.settings import CONFIG, replace_settings
from tasks.common.task import Task
from tasks.common.thresholds import ThresholdCounts
from tasks.common.training.pruning import prune_network
from tasks.common.training.sparsity import count_zeros, rewind

REPORT = "pruning.json"


def prune(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Remove the least important channels of a network, or its smallest weights, and write the rest as a run.

    Raises:
        ValueError: if the network cannot be pruned like that, or there are no training images.
    """
    options = arguments.options
    method = _method(options)
    refuse_export(options["run"])
    check_out_folder(task_class.name, out=options["out"], run=options["run"])
    origin = options["run"] or arguments.config.pretrained
    task, network = load_model(task_class, arguments.config, options["run"], arguments.given)
    task_class.from_data(task.config)  # refuses networks and data that cannot be trained
    source = validation_source(task)
    if options["sparsity"] is None:
        smaller_task, smaller = prune_network(task, network, options["mult_adds"])
    else:
        start = replace_settings(task.config, {"pretrained": arguments.config.pretrained})
        smaller_task, smaller = rewind(task.with_settings(start), network, options["sparsity"])

    scores: dict[str, float] = {}
    counts, classes = NO_IMAGES, list[ThresholdCounts]()
    if source is not None:
        evaluation = evaluate_source(smaller_task, smaller, source, "evaluating")
        scores, counts = evaluation.scores, evaluation.counts
        classes = [*evaluation.metric.count_at_thresholds()]
    folder = out_folder(smaller_task, "pruned", out=options["out"], run=options["run"])
    report: dict[str, Any] = {
        "pruned": origin,
        "before": _describe(task, network),
        "after": _describe(smaller_task, smaller),
    }
    trained = replace_settings(smaller_task.config, {"pretrained": arguments.config.pretrained})  # for the licence
    with explain_full_disk(folder, same_again):
        write_settings(dataclasses.asdict(smaller_task.config), folder)
        smaller_task.write_metadata(folder)
        write_json(folder / REPORT, report)
        shown = task.source("train") if source is None else source
        write_result(smaller_task, smaller, shown, folder, scores=scores, counts=counts, classes=classes)
        write_card(
            smaller_task.with_settings(trained),
            folder,
            num_images=len(task.source("train")),
            mult_adds=report["after"]["mult_adds"],
            num_params=report["after"]["num_params"],
            scores=scores,
            num_scored=counts["num_images"],
            command=f"`python -m tasks.{task.name} prune {method}` of `{without_places(origin)}`",
        )
    if options["sparsity"] is None:
        _print(report["before"], report["after"])
    else:
        _print_zeros(report["after"])
    if source is None:
        print(NOT_HELD_OUT, file=sys.stderr)
    else:
        print_metrics(scores, f"before it is trained again, {evaluation.num_images} val images")
    place = quote(str(folder))
    train = f"python -m tasks.{task.name} train --config {quote(str(folder / CONFIG))} --pretrained {place}"
    print(f"wrote {folder}; train it again with: {train}", file=sys.stderr)
    return 0


def _method(options: dict[str, Any]) -> str:
    """The flag that says how much is removed, with its value.

    Raises:
        ValueError: if it is out of range, or something that it needs is missing.
    """
    fraction, sparsity = options["mult_adds"], options["sparsity"]
    if sparsity is None:
        if not 0 < fraction <= 1:
            raise ValueError(f"--mult_adds: expected a fraction over 0 and at most 1, got {fraction:g}")
        check_packages("pruning", "the extra")
        return f"--mult_adds {fraction:g}"
    if not 0 < sparsity < 1:
        raise ValueError(f"--sparsity: expected a fraction over 0 and under 1, got {sparsity:g}")
    if not options["run"]:
        raise ValueError("--sparsity: goes back to the weights that a run started from; give --run, not --pretrained")
    return f"--sparsity {sparsity:g}"


def _describe(task: Task[Any], network: Any) -> dict[str, Any]:
    """The size of a network and of its backbone."""
    side = task.config.data.input_size
    whole, backbone = inference_cost(network, side), inference_cost(network.backbone, side)
    return {
        "mult_adds": whole.mult_adds,
        "num_params": whole.num_params,
        "backbone_mult_adds": backbone.mult_adds,
        "num_zeros": count_zeros(network),
        "channels": network.backbone.layer_channels,
    }


def _print(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, title in (("backbone_mult_adds", "mult-adds of the backbone, M"), ("num_params", "parameters, M")):
        fraction = after[key] / before[key]
        print(f"{title}: {before[key] / 1e6:.2f} -> {after[key] / 1e6:.2f} ({fraction:.3f})")
    print(f"channels of each layer: {_join(before['channels'])} -> {_join(after['channels'])}")


def _print_zeros(after: dict[str, Any]) -> None:
    zeros, parameters = after["num_zeros"], after["num_params"]
    print(f"parameters that are zero, M: {zeros / 1e6:.2f} of {parameters / 1e6:.2f} ({zeros / parameters:.3f})")
    print("the others are as before the training; the file and the latency stay as they are")


def _join(channels: list[int]) -> str:
    return " ".join(map(str, channels))
