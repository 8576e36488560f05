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
    parser = argparse.ArgumentParser(prog="python -m backbone", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    cost = verbs.add_parser(
        "cost", help="mult-adds and parameters", epilog="example: python -m backbone cost mobilenet_0.5_160 --json"
    )
    cost.add_argument("name", help="mobilenet_<width>[_conv|_shallow|_head][_<input size>], mobilenet_v2_<width>, ...")
    cost.add_argument("--num_classes", type=int, default=1000, help="outputs of the classifier (default: %(default)s)")
    weights = verbs.add_parser(
        "weights", help="the published weights", epilog="example: python -m backbone weights --json"
    )
    for verb in (cost, weights):
        verb.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        return _weights(options) if options.verb == "weights" else _cost(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _cost(options: argparse.Namespace) -> int:
    input_size = parse_name(options.name).input_size or DEFAULT_INPUT_SIZE

    import torch  # slow; not needed for `--help`

    from backbone.base import Classifier
    from backbone.build import build_backbone
    from backbone.cost import count_cost, format_cost

    with torch.device("meta"):
        model = Classifier(build_backbone(options.name), options.num_classes)
        cost_of_model = count_cost(model, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))
    if options.json:
        print(json.dumps(cost_of_model.to_dict(), indent=2))
    else:
        print(format_cost(cost_of_model, f"{options.name} at {input_size} px, {options.num_classes} classes"))
    return 0


def _weights(options: argparse.Namespace) -> int:
    from backbone.published import PUBLISHED

    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in PUBLISHED], indent=2))
        return 0
    header = ("--backbone.pretrained", "publisher", "--backbone.name", "px", "top-1", "top-5", "licence", "checked by")
    form = "{:<33}{:<13}{:<24}{:>3}  {:<7}{:<7}{:<14}{:<21}{}"
    print(form.format(*header, "from"))
    for row in PUBLISHED:
        name, _, size = row.backbone.rpartition("_")
        scores = f"{row.top1:.3f}", f"{row.top5:.3f}"
        checked_by = "first use" if row.sha256 is None else f"SHA-256 {row.sha256[:8]}..."
        print(form.format(row.name, row.publisher, name, size, *scores, row.licence, checked_by, row.url))
    print("top-1, top-5: on the ImageNet validation set at that size, as published.")
    print("SHA-256: verified at each use against a digest in this program; --json prints it in full.")
    print("first use: no digest is published; that of the first download is stored beside torch's downloads, and later")
    print("files must match it. Downloads of Keras's weights are also verified against the server's MD5.")
    print("A publisher's name selects its file that fits --backbone.name and is nearest in input size.")
    return 0
