"""The command line of the results."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tasks.common.cli.main import exit_status
from tasks.registry import TASKS

README = Path(__file__).with_name("README.md")
SWEEP = "sweep"
MARKER = "<!-- what follows is written by: python -m results --write -->\n"


def main(words: Sequence[str]) -> int:
    """Print the paper's tables beside ours.

    Args:
        words: after `python -m results`.

    Returns:
        The exit status: 0, 1 after a mistake in the data, 2 after one in the arguments.
    """
    if list(words[:1]) == [SWEEP]:
        return _sweep(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m results",
        description="The paper's tables beside ours: mult-adds and parameters counted from the real networks now, "
        "accuracies as they were recorded by `evaluate --record`, in brackets where the data are not the paper's.",
        epilog="example: python -m results 6 14. `python -m results sweep --help` trains width by resolution.",
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="2 to 14; all where none is named")
    parser.add_argument("--json", action="store_true", help="print every cell's value, source and provenance")
    parser.add_argument("--write", action="store_true", help="write the tables into results/README.md")
    options = parser.parse_args(words)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    from results.measured import read_measured  # only now: torch takes seconds to import
    from results.paper import TITLES, read_paper
    from results.render import as_json, as_markdown, print_tables
    from results.tables import build_tables

    unknown = [table for table in options.tables if table not in TITLES]
    if unknown:
        raise ValueError(f"TABLE: there is no table {unknown[0]}; expected some of {', '.join(TITLES)}")
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


def _sweep(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m results sweep",
        description="Train width by resolution on one task, and set scores against mult-adds, parameters and measured "
        "latency. All other settings are the task's. Stopped, it goes on with the same command.",
        epilog="example: python -m results sweep --task classification --widths 0.5 0.25 --sizes 128 96 --out sweep "
        "--optim.epochs 5",
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--widths", required=True, nargs="+", type=float)
    parser.add_argument("--sizes", required=True, nargs="+", type=int, help="input sizes in pixels")
    parser.add_argument("--weights", nargs="+", default=[], help="backbone.pretrained of each width, in their order")
    parser.add_argument("--out", required=True, type=Path, help="folder for cells, sweep.csv and sweep.png")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="begin no cell after so long")
    options, settings = parser.parse_known_args(words)
    if options.weights and len(options.weights) != len(options.widths):
        parser.error(f"--weights: expected one for each of the {len(options.widths)} widths")

    def run() -> int:
        from results.sweep import sweep  # only now: torch takes seconds to import

        kept = {"weights": options.weights, "budget_minutes": options.budget}
        return sweep(options.task, options.widths, options.sizes, options.out, settings, **kept)

    return exit_status(run)
