"""The verbs that every task has: their flags besides the settings, and the modules that run them. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Command:
    """One verb of the command line.

    Attributes:
        help: what it does, with a short first sentence; `{task}` is replaced by the task's name, as in `examples`.
        examples: two commands that run in a fresh clone, in this order.
        module: has a function of the verb's name, (task class, arguments) -> exit status; imported when it is called.
        add_flags: adds the verb's own flags to a parser.
        usage: the verb's own arguments, in its usage line.
        uses_sample: without `--config` and `--data.root` the settings are those of the sample's recipe.
        is_light: the function takes the task's name in place of its class, whose import takes seconds.
    """

    help: str
    examples: tuple[str, str]
    module: str
    add_flags: Callable[[ArgumentParser], None]
    usage: str = ""
    uses_sample: bool = False
    is_light: bool = False


def _train_flags(parser: ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument(
        "--resume", type=str | None, metavar="RUN", help="run folder to resume; it ends as if never stopped"
    )
    parser.add_argument(
        "--extend",
        type=str | None,
        metavar="RUN",
        help="finished run to train further, for optim.epochs more epochs in a new run folder",
    )


def _evaluate_flags(parser: ArgumentParser) -> None:
    add_run(parser, "evaluate-<split>")
    parser.add_argument("--split", type=Literal["train", "val", "test"], default="val", help="which images")
    parser.add_argument("--record", type=str | None, metavar="FILE", help="append the scores to this JSON Lines file")
    add_json(parser)


def _predict_flags(parser: ArgumentParser) -> None:
    add_run(parser, "predict")
    parser.add_argument(
        "inputs",
        nargs="+",
        type=str,
        help="image, folder, glob, video, list (.txt: a path or URL a line), URL, number of a camera, or - for "
        "standard input",
    )
    parser.add_argument(
        "--save",
        nargs="+",
        choices=["boxes", "crops", "coco", "none"],
        default=["boxes"],
        help="drawn images; each object or face as an image of its own; COCO results; or records alone",
    )
    parser.add_argument("--json", action="store_true", help="print the records in place of a summary")


def _export_flags(parser: ArgumentParser) -> None:
    add_run(parser, "export, or export-int8")
    parser.add_argument("--int8", action="store_true", help="quantise, with ranges from 100 training images")
    parser.add_argument(
        "--max_loss", type=float, default=0.01, help="with --int8: how much of the score 8 bits may cost"
    )
    parser.add_argument(
        "--finetune",
        action="store_true",
        help="with --int8: also train the network to keep its outputs in 8 bits, on up to 1,400 other training images, "
        "and take it if that agrees better",
    )
    parser.add_argument(
        "--raw", action="store_true", help="the network's raw outputs, without the postprocessing inside the file"
    )
    parser.add_argument(
        "--format",
        choices=["onnx", "web", "openvino", "litert", "executorch", "coreml"],
        default="onnx",
        help="web: also a page that runs the file in a browser; others: also files for another runtime, which needs "
        "pip install '.[FORMAT]'; with --int8 only openvino and litert",
    )


def _prune_flags(parser: ArgumentParser) -> None:
    add_run(parser, "pruned")
    parser.add_argument(
        "--mult_adds", type=float, default=0.5, help="how much of the backbone's mult-adds is kept, as a fraction"
    )
    parser.add_argument(
        "--sparsity",
        type=float | None,
        metavar="FRACTION",
        help="in place of channels: how many of the weights become zero, the smallest ones; the others go back to "
        "those that the run started from (a lottery ticket)",
    )


def _cost_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--num_classes", type=int | None, help="classes without background (default: the paper's)")
    add_json(parser)


def _benchmark_flags(parser: ArgumentParser) -> None:
    widths, sizes, usual = [1.0, 0.75, 0.5, 0.25], [224, 192, 160, 128], ["torch", "onnx", "int8"]
    others = ["openvino", "openvino_int8", "litert", "litert_int8", "executorch"]
    parser.add_argument("--widths", type=float, nargs="+", default=widths, help="width multipliers")
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="input sizes in pixels")
    parser.add_argument(
        "--runtimes",
        choices=[*usual, *others],
        nargs="+",
        default=usual,
        help="runtimes to time; those beyond the default need pip install '.[openvino]' and so on",
    )
    parser.add_argument("--num_threads", type=int, nargs="+", default=[], help="threads of a network (default: cores)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1], help="images at once")
    parser.add_argument(
        "--images", type=str | None, metavar="FOLDER", help="folder of photos: also time predict on them"
    )
    parser.add_argument("--num_classes", type=int | None, help="classes without background (default: the paper's)")
    add_out(parser, "runs/<task>/<backbone>-benchmark")
    add_json(parser)


def add_run_dir(parser: ArgumentParser) -> None:
    """The flag of verbs that make a run folder."""
    parser.add_argument("--run_dir", type=str | None, metavar="DIR", help="new run folder (default: runs/.../<time>)")


def add_run(parser: ArgumentParser, folder: str) -> None:
    """The flags of verbs that read a run, or published weights, and write a folder."""
    add_run_flag(parser)
    add_out(parser, f"<run>/{folder}")


def add_run_flag(parser: ArgumentParser) -> None:
    """The flag of verbs that read a run, or published weights."""
    parser.add_argument("--run", type=str | None, help="run folder made by train; without it, --pretrained")


def add_out(parser: ArgumentParser, default: str) -> None:
    """The flag of verbs that write a folder."""
    parser.add_argument("--out", type=str | None, metavar="DIR", help=f"new folder (default: {default})")


def add_json(parser: ArgumentParser) -> None:
    """The flag of verbs that print figures."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def _push_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--run", type=str, required=True, help="run folder made by train")
    parser.add_argument(
        "--repo", type=str, required=True, metavar="USER/NAME", help="repository, made if there is none"
    )
    parser.add_argument("--private", action="store_true", help="a new repository is private")


def _models_flags(parser: ArgumentParser) -> None:
    add_json(parser)


_MAKE_RUN = "python -m tasks.{task} train --run_dir runs/{task}/first"

COMMANDS = {
    "train": Command(
        "Train, and write a run folder: log, checkpoints, metrics and pictures. Without --config and --data.root it "
        "trains on the generated sample, by configs/{task}/sample.yaml.",
        (
            "python -m tasks.{task} train",
            "python -m tasks.{task} train --optim.epochs 2 --backbone.name mobilenet_0.5 --run_dir runs/{task}/short",
        ),
        "tasks.common.verbs.train",
        _train_flags,
        uses_sample=True,
    ),
    "evaluate": Command(
        "Score a run or published weights on a split of the data. Writes metrics, pictures and failure cases.",
        (_MAKE_RUN, "python -m tasks.{task} evaluate --run runs/{task}/first"),
        "tasks.common.verbs.evaluate",
        _evaluate_flags,
        usage=" [--run RUN]",
        is_light=True,
    ),
    "predict": Command(
        "Print and draw predictions for your images, videos, cameras and streams. Writes predictions.jsonl, too.",
        (_MAKE_RUN, "python -m tasks.{task} predict --run runs/{task}/first tasks/{task}/*.jpg"),
        "tasks.common.verbs.predict",
        _predict_flags,
        usage=" [--run RUN] INPUT...",
        is_light=True,
    ),
    "export": Command(
        "Write a network as an ONNX file. Prints scores, size and latency of both. The new folder is a run that "
        "evaluate and predict take.",
        (_MAKE_RUN, "python -m tasks.{task} export --run runs/{task}/first --int8"),
        "tasks.common.verbs.export",
        _export_flags,
        usage=" [--run RUN]",
    ),
    "prune": Command(
        "Remove the least important channels of a network on MobileNet v1, and write the smaller one as a run, to be "
        "trained again; needs pip install '.[pruning]'. Or set its smallest weights to zero.",
        (_MAKE_RUN, "python -m tasks.{task} prune --run runs/{task}/first --sparsity 0.8"),
        "tasks.common.verbs.prune",
        _prune_flags,
        usage=" [--run RUN]",
    ),
    "models": Command(
        "List the published models of {task}, which --pretrained takes. Other weights to start from: python -m "
        "backbone weights.",
        ("python -m tasks.{task} models", "python -m tasks.{task} models --json"),
        "tasks.common.verbs.models",
        _models_flags,
        is_light=True,
    ),
    "push": Command(
        "Upload a run to the Hugging Face Hub: weights, settings and model card. From there every command takes it by "
        "--pretrained hf:USER/NAME.",
        (_MAKE_RUN, "python -m tasks.{task} push --run runs/{task}/first --repo USER/NAME --private"),
        "tasks.common.verbs.push",
        _push_flags,
        usage=" --run RUN --repo USER/NAME",
        is_light=True,
    ),
    "cost": Command(
        "Count mult-adds (MACs) and parameters of a configured model, or of one by --pretrained.",
        ("python -m tasks.{task} cost", "python -m tasks.{task} cost --backbone.name mobilenet_0.5 --json"),
        "tasks.common.verbs.cost",
        _cost_flags,
    ),
    "benchmark": Command(
        "Measure latency on this machine by width, input size, runtime, threads and batch size, and how many times as "
        "long it is as that of a matrix product with as many mult-adds. The weights are random; --pretrained times one "
        "model.",
        (
            "python -m tasks.{task} benchmark",
            "python -m tasks.{task} benchmark --widths 0.5 0.25 --sizes 128 --num_threads 1 2 --batch_sizes 1 8",
        ),
        "tasks.common.verbs.benchmark",
        _benchmark_flags,
    ),
}
