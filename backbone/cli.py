"""`python -m backbone cost NAME`: mult-adds and parameters of a backbone with a classifier."""

from __future__ import annotations

import argparse
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
    cost.add_argument("name", help="mobilenet_<width>[_conv|_shallow][_<input size>]")
    cost.add_argument("--num_classes", type=int, default=1000, help="outputs of the classifier (default: %(default)s)")
    cost.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        name = parse_name(options.name)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    import torch  # only now: `--help` does not wait for it

    from backbone.cost import count_cost, format_cost
    from backbone.mobilenet import Classifier, build_backbone

    input_size = name.input_size or DEFAULT_INPUT_SIZE
    with torch.device("meta"):
        model = Classifier(build_backbone(options.name), options.num_classes)
        cost_of_model = count_cost(model, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))
    if options.json:
        print(json.dumps(cost_of_model.to_json(), indent=2))
    else:
        print(format_cost(cost_of_model, f"{options.name} at {input_size} px, {options.num_classes} classes"))
    return 0
