"""`python -m backbone cost NAME | weights`: the cost of a backbone, and the published weights."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from backbone.names import DEFAULT_INPUT_SIZE, parse_name


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backbone", description="Backbones: their cost and their weights.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    cost = _add_verb(
        verbs,
        "cost",
        "count mult-adds (MACs) and parameters",
        ("cost mobilenet_0.5_160", "cost mobilenet_v3_small_1.0 --json"),
    )
    cost.add_argument("name", help="such as mobilenet_0.5, mobilenet_0.5_160, mobilenet_1.0_shallow, mobilenet_v2_1.0")
    cost.add_argument("--num_classes", type=int, default=1000, help="outputs of the classifier (default: %(default)s)")
    weights = _add_verb(verbs, "weights", "list the published weights", ("weights", "weights --json"))
    for verb in (cost, weights):
        verb.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return _weights(options) if options.verb == "weights" else _cost(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, examples: tuple[str, str]
) -> argparse.ArgumentParser:
    """A verb whose help ends with two commands that run."""
    lines = "\n".join(f"  python -m backbone {example}" for example in examples)
    return verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _cost(options: argparse.Namespace) -> int:
    input_size = parse_name(options.name).input_size or DEFAULT_INPUT_SIZE

    import torch  # slow; not needed for `--help`

    from backbone.base import Classifier
    from backbone.build import build_backbone
    from backbone.cost import count_cost, format_cost

    with torch.device("meta"):
        model = Classifier(build_backbone(options.name), options.num_classes)
        cost = count_cost(model, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))
    if options.json:
        print(json.dumps(cost.to_dict(), indent=2))
    else:
        print(format_cost(cost, f"{options.name} at {input_size} px, {options.num_classes} classes"))
    return 0


def _weights(options: argparse.Namespace) -> int:
    from backbone.published import PUBLISHED

    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in PUBLISHED], indent=2))
        return 0
    header = ("--pretrained", "publisher", "--backbone.name", "px", "top-1", "top-5", "licence", "checked by")
    form = "{:<33}{:<13}{:<24}{:>3}  {:<7}{:<7}{:<14}{:<21}{}"
    print(form.format(*header, "from"))
    for row in PUBLISHED:
        name, _, size = row.backbone.rpartition("_")
        scores = f"{row.top1:.3f}", f"{row.top5:.3f}"
        checked_by = "first use" if row.sha256 is None else f"SHA-256 {row.sha256[:8]}..."
        print(form.format(row.name, row.publisher, name, size, *scores, row.licence, checked_by, row.url))
    print("top-1, top-5: ImageNet validation accuracy at that size, as published.")
    print("SHA-256: compared at each use with the digest in this program; --json prints it in full.")
    print("first use: no digest is published, so the digest of the first download is stored beside it, and later files")
    print("must match it; a download from Keras must also match the MD5 that its server states.")
    print("A publisher's name picks its file that fits --backbone.name and is nearest to the input size.")
    return 0
