"""The verbs that every task has: what each takes besides settings, and where it is done. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Command:
    """One verb of the command line.

    Attributes:
        help: what it does; `{task}` stands for the task's name, here and in `example`.
        example: words that run.
        module: has a function of the verb's name, (task class, arguments) -> exit status; imported when it is called.
        add_flags: gives a parser what the verb takes besides the settings.
        usage: what must or may be said before the settings.
        knows_sample: without `--config` and `--data.root` the settings are the sample's.
    """

    help: str
    example: str
    module: str
    add_flags: Callable[[ArgumentParser], None]
    usage: str = ""
    knows_sample: bool = False


def _train_flags(parser: ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("--resume", type=str | None, metavar="RUN", help="continue that run exactly")


def _evaluate_flags(parser: ArgumentParser) -> None:
    add_run(parser, "evaluate")
    parser.add_argument("--split", type=Literal["train", "val"], default="val", help="which images")
    parser.add_argument("--record", type=str | None, metavar="FILE", help="append the scores to this JSON Lines file")
    add_json(parser)


def _predict_flags(parser: ArgumentParser) -> None:
    add_run(parser, "predict")
    parser.add_argument("inputs", nargs="+", type=str, help="image, folder, glob or video")


def _export_flags(parser: ArgumentParser) -> None:
    add_run(parser, "export, or export-int8")
    parser.add_argument("--int8", action="store_true", help="8 bits, with ranges from 100 training images")


def _cost_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--num_classes", type=int | None, help="classes without background (default: the paper's)")
    add_json(parser)


def _benchmark_flags(parser: ArgumentParser) -> None:
    widths, sizes, runtimes = [1.0, 0.75, 0.5, 0.25], [224, 192, 160, 128], ["torch", "onnx", "int8"]
    parser.add_argument("--widths", type=float, nargs="+", default=widths, help="width multipliers")
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="input sizes in pixels")
    parser.add_argument("--runtimes", choices=runtimes, nargs="+", default=runtimes, help="what computes")
    parser.add_argument("--num_classes", type=int | None, help="classes without background (default: the paper's)")
    add_out(parser, "runs/<task>/<backbone>-benchmark")
    add_json(parser)


def add_run_dir(parser: ArgumentParser) -> None:
    """The flag of verbs that make a run folder."""
    parser.add_argument("--run_dir", type=str | None, help="folder to make (default: one below runs, by date and time)")


def add_run(parser: ArgumentParser, folder: str) -> None:
    """The flags of verbs that take a run, or published weights, and leave a folder."""
    parser.add_argument("--run", type=str | None, help="run folder made by train; without it, published weights")
    add_out(parser, f"<run>/{folder}")


def add_out(parser: ArgumentParser, default: str) -> None:
    """The flag of verbs that leave a folder."""
    parser.add_argument("--out", type=str | None, help=f"folder to make (default: {default})")


def add_json(parser: ArgumentParser) -> None:
    """The flag of verbs that print figures."""
    parser.add_argument("--json", action="store_true", help="print JSON")


COMMANDS = {
    "train": Command(
        "Train, evaluate, and leave a run folder with log, checkpoints, metrics and pictures. Without --config and "
        "--data.root it trains on the drawn sample, by configs/{task}/sample.yaml.",
        "python -m tasks.{task} train --optim.epochs 10 --run_dir runs/first",
        "tasks.common.verbs.train",
        _train_flags,
        knows_sample=True,
    ),
    "evaluate": Command(
        "Score a run's best checkpoint, or published weights (--backbone.pretrained), on a split",
        "python -m tasks.{task} evaluate --run runs/first --json",
        "tasks.common.verbs.evaluate",
        _evaluate_flags,
        usage=" [--run RUN]",
    ),
    "predict": Command(
        "Draw predictions for images, folders, globs and videos, and write predictions.jsonl",
        "python -m tasks.{task} predict --run runs/first photo.jpg holiday/ 'more/*.png' clip.mp4",
        "tasks.common.verbs.predict",
        _predict_flags,
        usage=" [--run RUN] INPUT...",
    ),
    "export": Command(
        "Write a run's network as an ONNX file, and compare its scores, size and latency with it. The new folder is a "
        "run that evaluate and predict take",
        "python -m tasks.{task} export --run runs/first --int8",
        "tasks.common.verbs.export",
        _export_flags,
        usage=" [--run RUN]",
    ),
    "cost": Command(
        "Mult-adds and parameters of the configured model",
        "python -m tasks.{task} cost --backbone.name mobilenet_0.5 --json",
        "tasks.common.verbs.cost",
        _cost_flags,
    ),
    "benchmark": Command(
        "Measure this machine's latency for widths by input sizes, in PyTorch and in ONNX Runtime; nothing is trained",
        "python -m tasks.{task} benchmark --widths 1.0 0.5 --sizes 224 128",
        "tasks.common.verbs.benchmark",
        _benchmark_flags,
    ),
}
