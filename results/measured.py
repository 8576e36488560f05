"""What we have measured: one line of JSON for each evaluation that was asked to be recorded (`evaluate --record`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbone import parse_name
from tasks.common.record import MEASURED
from results.paper import PaperCell

# Whose evaluations say something of a table, and what a metric is called there.
TASK_OF_TABLE = {
    **dict.fromkeys(("4", "5", "6", "7", "8", "9", "10"), "classification"),
    "11": "geolocation",
    "12": "attributes",
    "13": "detection",
    "14": "embedding",
}
METRICS = {"map": "AP"}
BACKBONES = {  # of rows that are not called by a backbone's name
    "mobilenet": "mobilenet_1.0_224",
    "conv mobilenet": "mobilenet_1.0_conv_224",
    "shallow mobilenet": "mobilenet_1.0_shallow_224",
    "planet mobilenet": "mobilenet_1.0_224",
    "mobilenet_0.75": "mobilenet_0.75_224",
}
DOGS_TABLE, DOGS = "10", "stanford_dogs"


def read_measured(path: Path = MEASURED) -> list[dict[str, Any]]:
    """All records, the newest first; none where there is no file.

    Raises:
        ValueError: naming the line, if one cannot be read.
    """
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            record["metrics"], record["backbone"]  # noqa: B018
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: line {number}: not a record of evaluate --record") from error
        records.append(record)
    return records[::-1]


def find(records: Sequence[dict[str, Any]], cell: PaperCell) -> dict[str, Any] | None:
    """The newest record of a cell's network, task and quantity, on whatever data; None where there is none."""
    return next((record for record in records if _is_of(record, cell)), None)


def value_of(record: dict[str, Any], cell: PaperCell) -> float:
    """What the record says of the cell's quantity, in percent."""
    return 100 * float(record["metrics"][METRICS.get(cell.quantity, cell.quantity)])
