"""The command line of the results."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets.files import local_path
from results.ablate_rows import ROWS as ABLATION_ROWS
from results.bench.areas import AREAS, jobs_of
from results.compress_rows import DEFAULT_ROWS, DEFAULT_RUNTIMES, NETWORKS, PRECISIONS, RUNTIMES
from results.paper import TITLES, read_paper
from tasks.common.cli.main import exit_status
from tasks.registry import TASKS

README = Path(__file__).with_name("README.md")
MARKER = "<!-- what follows is written by: python -m results --write -->\n"
PROGRAM = "python -m results"
ALL = "all"  # areas of the benchmark
COMMANDS = {
    "tables": "the paper's tables compared with ours; this is the default",
    "sweep": "train width by resolution on one task",
    "compress": "ways to a small network compared: trained, distilled, pruned, in 8 bits",
    "ablate": "parts of MobileNet changed one by one: normalisation, strides, activation, ...",
    "tradeoff": "the best trained network within a latency and a size, as measured here",
    "bench": "speed compared with other libraries",
}
LISTING = "commands:\n" + "\n".join(f"  {name:<10}{summary}" for name, summary in COMMANDS.items())


def main(words: Sequence[str]) -> int:
    """Run one command.

    Args:
        words: after `python -m results`; `tables` may be left out.

    Returns:
        The exit status: 0, 1 after an error in the data, 2 after one in the arguments, 3 where a sweep or a
        study is unfinished.
    """
    parsers = {
        "tables": _tables,
        "sweep": _sweep,
        "compress": _compress,
        "ablate": _ablate,
        "tradeoff": _tradeoff,
        "bench": _bench,
    }
    command = words[0] if words else "tables"
    if command in parsers:
        return parsers[command](words[1:])
    if command in ("-h", "--help"):
        usage = f"usage: {PROGRAM} [COMMAND] ...\n\n{LISTING}\n\n{PROGRAM} COMMAND --help explains each"
        print(f"{usage}\n\n{_examples('13', 'bench postprocessing')}")
        return 0
    if command.startswith("-") or command.isdigit():
        return _tables(words)
    print(f"error: there is no command {command!r}\n{LISTING}", file=sys.stderr)
    return 2


def _tables(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} tables",
        description="The paper's tables beside ours: mult-adds and parameters counted from the real networks now, "
        "accuracies as recorded by `evaluate --record`, in brackets where the data are not the paper's.",
        epilog=_examples("tables 6 14", "tables 13 --json"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="2 to 14 (default: all)")
    parser.add_argument("--json", action="store_true", help="print every cell's value, source and provenance")
    parser.add_argument("--write", action="store_true", help="write the tables into results/README.md")
    options = parser.parse_args(words)
    unknown = [table for table in options.tables if table not in TITLES]
    if unknown:
        print(f"error: there is no table {unknown[0]!r}; expected {', '.join(TITLES)}", file=sys.stderr)
        return 2

    def run() -> int:
        from results.measured import read_measured  # only now: torch takes seconds to import
        from results.render import as_json, as_markdown, print_tables
        from results.tables import build_tables

        wanted = [cell for cell in read_paper() if not options.tables or cell.table in options.tables]
        tables = build_tables(wanted, read_measured())
        if options.write:
            hand_written = README.read_text(encoding="utf-8").partition(MARKER)[0]
            README.write_text(f"{hand_written}{MARKER}\n{as_markdown(tables)}", encoding="utf-8")
        elif options.json:
            print(json.dumps(as_json(tables), indent=2))
        else:
            print_tables(tables)
        return 0

    return exit_status(run)


def _sweep(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} sweep",
        description="Train width by resolution on one task, and compare scores with mult-adds, parameters and measured "
        "latency. All other settings are the task's. The same command resumes an interrupted sweep.",
        epilog=_examples(
            "sweep --task classification --widths 0.5 0.25 --sizes 128 96 --out runs/sweep --optim.epochs 5",
            "sweep --task detection --widths 0.25 --sizes 128 96 --out runs/sweep_detection --budget 30",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--widths", required=True, nargs="+", type=float, help="width multipliers")
    parser.add_argument("--sizes", required=True, nargs="+", type=int, help="input sizes in pixels")
    parser.add_argument("--weights", nargs="+", default=[], help="pretrained for each width, in their order")
    parser.add_argument("--out", required=True, type=local_path, help="folder for cells, sweep.csv and sweep.png")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="start no cell after this time")
    options, settings = parser.parse_known_args(words)
    if options.weights and len(options.weights) != len(options.widths):
        parser.error(f"--weights: expected one for each of the {len(options.widths)} widths")

    def run() -> int:
        from results.sweep import sweep  # only now: torch takes seconds to import

        return sweep(
            options.task,
            options.widths,
            options.sizes,
            options.out,
            settings,
            weights=options.weights,
            budget_minutes=options.budget,
        )

    return _in_folder(options.out, run)


def _tradeoff(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} tradeoff",
        description="Which network to put on this device: exports the runs of a folder in float32 and in 8 bits, "
        "measures them here, and names the one with the best score within the limits. Exports are kept.",
        epilog=_examples("tradeoff runs/sweep --ms 5 --mb 2", "tradeoff runs/sweep --ms 2 --num_threads 1"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="with runs of one task, such as that of a sweep")
    parser.add_argument("--ms", type=float, default=math.inf, help="highest latency of one image (default: any)")
    parser.add_argument("--mb", type=float, default=math.inf, help="largest file in megabytes (default: any)")
    parser.add_argument("--num_threads", type=_positive, metavar="N", help="of ONNX Runtime (default: all cores)")
    options = parser.parse_args(words)

    def run() -> int:
        from results.tradeoff import tradeoff

        return tradeoff(options.folder, max_ms=options.ms, max_mb=options.mb, num_threads=options.num_threads)

    return exit_status(run)


def _compress(words: Sequence[str]) -> int:
    rows = "\n".join(f"  {row:<18}{summary}" for row, summary in NETWORKS.items())
    precisions = "\n".join(f"  ...+{name:<14}{summary}" for name, summary in PRECISIONS.items())
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} compress",
        allow_abbrev=False,  # --seed is a setting
        description="Make a small network in several ways, with the same data and as many training steps, and compare\n"
        "scores with mult-adds, parameters, bytes and measured latency. All other settings are the task's. The same\n"
        "command resumes an interrupted study. Rows that are pruned need pip install '.[pruning]'.",
        epilog=f"rows:\n{rows}\n{precisions}\n\n"
        + _examples(
            "compress --task attributes --student mobilenet_0.25 --teacher mobilenet_0.5 --out runs/compress",
            "compress --task attributes --student mobilenet_0.25 --teacher mobilenet_0.5 --out runs/compress "
            "--runtimes torch onnx openvino litert",
            "compress --task classification --student mobilenet_0.5 --teacher mobilenet_1.0 --out runs/compress_dogs "
            "--seeds 3 --budget 60 --pretrained keras",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--student", required=True, metavar="NAME", help="the small backbone")
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="NAME",
        help="the large one; teaches, and is pruned to the student's mult-adds",
    )
    parser.add_argument("--teacher_pretrained", metavar="WEIGHTS", help="of the teacher (default: --pretrained)")
    parser.add_argument(
        "--rows", nargs="+", default=DEFAULT_ROWS, metavar="ROW", help=f"default: {' '.join(DEFAULT_ROWS)}"
    )
    parser.add_argument("--seeds", type=_positive, default=1, metavar="N", help="networks of each row")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=RUNTIMES,
        default=DEFAULT_RUNTIMES,
        help="a column of latencies for each; in 8 bits those that have such a network. onnx, which the plot shows, "
        "computes the exported file with its postprocessing, others the network's outputs. Those beyond the default "
        f"({' '.join(DEFAULT_RUNTIMES)}) need pip install '.[openvino]' and so on",
    )
    parser.add_argument(
        "--out", required=True, type=local_path, help="folder for networks, compress.csv and compress.png"
    )
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="start no command after this time")
    options, settings = parser.parse_known_args(words)

    def run() -> int:
        from results.compress import compress  # only now: torch takes seconds to import

        return compress(
            options.task,
            options.student,
            options.teacher,
            options.out,
            settings,
            teacher_pretrained=options.teacher_pretrained,
            rows=options.rows,
            num_seeds=options.seeds,
            budget_minutes=options.budget,
            runtimes=options.runtimes,
        )

    return _in_folder(options.out, run)


def _ablate(words: Sequence[str]) -> int:
    rows = "\n".join(f"  {name:<13}{row.summary}" for name, row in ABLATION_ROWS.items())
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} ablate",
        allow_abbrev=False,  # --seed is a setting
        description="Change MobileNet in one way at a time, train each network from random weights with the same\n"
        "data, steps and seeds, and compare it with the one it was made from: the difference, and whether these seeds\n"
        "can tell. All other settings are the task's; --backbone.name is the base. The same command resumes an\n"
        "interrupted study.",
        epilog=f"rows:\n{rows}\n\n"
        + _examples(
            "ablate --task classification --out runs/ablate --data.input_size 64 --optim.epochs 20",
            "ablate --task attributes --rows linear plain --out runs/ablate_faces --backbone.name mobilenet_0.25 "
            "--budget 60",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument(
        "--rows", nargs="+", default=list(ABLATION_ROWS), metavar="ROW", help="from the list below (default: all)"
    )
    parser.add_argument(
        "--seeds", type=_positive, default=3, metavar="N", help="networks of each row (default: %(default)s)"
    )
    parser.add_argument("--out", required=True, type=local_path, help="folder for networks, ablate.csv and ablate.png")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="start no training after this time")
    options, settings = parser.parse_known_args(words)

    def run() -> int:
        from results.ablate import ablate  # only now: torch takes seconds to import

        return ablate(
            options.task,
            options.out,
            settings,
            rows=options.rows,
            num_seeds=options.seeds,
            budget_minutes=options.budget,
        )

    return _in_folder(options.out, run)


def _bench(words: Sequence[str]) -> int:
    areas = "\n".join(f"  {name:<16}{summary}" for name, summary in AREAS.items())
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} bench",
        description="Measure our speed and that of other libraries, in turn, each in processes of its own, and print\n"
        "one table of medians and ratios. All areas take about a quarter of an hour on two idle cores.",
        epilog=f"areas:\n{areas}\n\n{_examples('bench loading postprocessing', 'bench search --num_images 100000')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("areas", nargs="*", metavar="AREA", help="areas to measure, from the list below, or all")
    count: Any = {"type": _positive, "metavar": "N"}
    parser.add_argument("--steps", **count, help="measured steps of each process (default: 1 to 30, by area)")
    parser.add_argument("--rounds", **count, default=2, help="processes of each row (default: %(default)s)")
    parser.add_argument("--batch_size", **count, help="default: loading 64, training 32 and 16, postprocessing 16")
    parser.add_argument(
        "--num_images", **count, help="default: evaluation 5,000, search 1,000,000, cells 1,000,000 and 10,000,000"
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="JPEG files for loading and predict (default: the generated sample)"
    )
    parser.add_argument("--coco", metavar="FOLDER", help="COCO data for training (default: the generated sample)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(words)
    chosen = list(AREAS) if options.areas == [ALL] else options.areas
    unknown = [area for area in chosen if area not in AREAS]
    if unknown or not chosen:
        problem = f"there is no area {unknown[0]!r}" if unknown else f"expected one or more areas, or {ALL}"
        print(f"error: {problem}\nareas:\n{areas}", file=sys.stderr)
        return 2

    def run() -> int:
        from results.bench.measure import run_jobs
        from results.bench.table import as_json, print_table

        sizes = {"batch_size": options.batch_size, "num_images": options.num_images}
        workload = {"steps": options.steps, "sizes": sizes, "images": options.images, "coco": options.coco}
        jobs = [job for area in chosen for job in jobs_of(area, **workload)]
        results = run_jobs(jobs, options.rounds)
        if options.json:
            print(json.dumps(as_json(results), indent=2))
        else:
            print_table(results)
        return 0

    return exit_status(run)


def _in_folder(folder: Path, study: Callable[[], int]) -> int:
    """Run a study as the only process that works on its folder; returns the exit status."""

    def run() -> int:
        from datasets.files import only_process

        folder.mkdir(parents=True, exist_ok=True)
        with only_process(folder, "--out"):
            return study()

    return exit_status(run)


def _examples(*commands: str) -> str:
    return "\n".join(["examples:", *(f"  {PROGRAM} {command}" for command in commands)])


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {word}")
    return number
