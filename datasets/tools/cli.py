"""`python -m datasets check | convert | split | stats FOLDER`: look at data, and write them in another form.

Nothing heavy is imported before the arguments are parsed, so that `--help` and typing errors are answered at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from datasets.console import did_you_mean, exit_status
from datasets.files import existing_folder

PROGRAM = "python -m datasets"


@dataclass(frozen=True)
class Verb:
    """A verb, which is a module of `datasets.tools`.

    The module is light to import and has `add_flags(parser)`, for the verb's own flags, and a function of the verb's
    name, (options) -> exit status. The frame adds `options.folder`, a Path, and `options.json`.

    Attributes:
        summary: what it does, in the list of verbs.
        help: more, for its own help.
        examples: two commands that run in a fresh clone, in this order.
    """

    summary: str
    help: str
    examples: tuple[str, str]


VERBS = {
    "check": Verb(
        "look for what would make a training worthless, as `train` does before it starts",
        "It finds unreadable images, boxes that make no sense, classes without examples, duplicates between train and "
        "val, files that are passed over, and more.",
        ("check", "check --json"),
    ),
    "convert": Verb(
        "write the data in another format: COCO, YOLO, Pascal VOC, WebDataset shards",
        "The folder is left as it is. Image files are hard links where the file system allows it, which takes no time "
        "and no space, and copies elsewhere: do not edit them in place. What the format cannot hold is printed with a "
        "count. Of objects, boxes and classes are written, not keypoints or further fields; masks only as shards.",
        ("convert --to yolo --out runs/sample_yolo", "convert runs/sample_yolo --to coco --out runs/sample_coco"),
    ),
    "split": Verb(
        "divide the data into train, val and test by a hash of names",
        "The val part is the one that `train` with the same data.val_fraction holds out. Without --out it prints how "
        "many images of each class go where. The folder is left as it is; image files are hard links where the file "
        "system allows it, and copies elsewhere.",
        ("split --test_fraction 0.2", "split --test_fraction 0.2 --out runs/sample_split"),
    ),
    "stats": Verb(
        "count images, classes, box sizes and aspect ratios",
        "It reads the annotations, not the images.",
        ("stats", "stats --json"),
    ),
}


def main(words: Sequence[str]) -> int:
    """Run one verb.

    Args:
        words: after `python -m datasets`.

    Returns:
        The exit status: 0, or 1 after an error in the data, 130 when interrupted.

    Raises:
        SystemExit: with status 2 after an error in the arguments, 0 after `--help`.
    """

    def run() -> int:
        verb = _verb(words[0] if words else "")
        module = importlib.import_module(f"datasets.tools.{verb}")
        parser = _Parser(
            prog=f"{PROGRAM} {verb}",
            description=f"{VERBS[verb].summary[0].upper()}{VERBS[verb].summary[1:]}. {VERBS[verb].help}",
            epilog="\n".join(["examples:", *(f"  {PROGRAM} {example}" for example in VERBS[verb].examples)]),
            allow_abbrev=False,
        )
        parser.add_argument("folder", nargs="?", metavar="FOLDER", help="the data (default: the generated sample)")
        module.add_flags(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.refuse_unknown(words[1:])
        options = parser.parse_args(words[1:])
        options.folder = _data_folder(options.folder)
        return int(getattr(module, verb)(options))

    return exit_status(run)


def _verb(word: str) -> str:
    """The verb; without one the list of verbs is printed, to stdout with status 0 where help is asked for."""
    if word in VERBS:
        return word
    lines = [f"usage: {PROGRAM} VERB [FOLDER] ...", "", "verbs:"]
    lines += [f"  {name:<9}{verb.summary}" for name, verb in VERBS.items()]
    lines += ["", f"{PROGRAM} VERB --help explains each."]
    if word in ("-h", "--help"):
        print("\n".join(lines))
        sys.exit(0)
    hint = did_you_mean(word, VERBS)
    print(f"error: expected a verb, got {word or 'nothing'}{hint}\n\n" + "\n".join(lines), file=sys.stderr)
    sys.exit(2)


def _data_folder(name: str | None) -> Path:
    """The folder of the data.

    Raises:
        ValueError: if there is none.
    """
    if name is None:
        from datasets.sample.detection import sample_root  # only now: OpenCV takes time to import

        return sample_root()
    return existing_folder(name, "FOLDER")


class _Parser(argparse.ArgumentParser):
    """A parser that wraps its description, keeps the lines of its examples, and hints at the nearest flag."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings, formatter_class=_HelpFormatter)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        print(f"error: {message}; {self.prog} --help explains the flags", file=sys.stderr)
        sys.exit(2)

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """Exit with status 2 if a word is a flag that there is not; argparse would first miss the required ones."""
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            if flag not in self._option_string_actions:
                self.error(f"unknown flag {flag}{did_you_mean(flag, self._option_string_actions)}")


class _HelpFormatter(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)
