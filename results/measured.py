"""Our recorded evaluations: one JSON line for each `evaluate --record results/measured.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.paper import DOGS_TABLE, NETWORKS, PaperCell

MEASURED = Path(__file__).with_name("measured.jsonl")
# The task of each table, and our names of the paper's metrics.
TASK_OF_TABLE = {
    **dict.fromkeys(("4", "5", "6", "7", "8", "9", "10"), "classification"),
    "11": "geolocation",
    "12": "attributes",
    "13": "detection",
    "14": "embedding",
}
METRICS = {"map": "AP"}
DOGS = "stanford_dogs"


def read_measured(path: Path = MEASURED) -> list[dict[str, Any]]:
    """All records, the newest first; none if there is no file.

    Raises:
        ValueError: naming the line, if one cannot be read.
    """
    if not path.is_file():
        return []
    records = []
    for line_number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record: dict[str, Any] = json.loads(line)
            missing = {"task", "data", "split", "metrics", "settings"} - record.keys()
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(f"{path}: line {line_number}: not a record of evaluate --record") from error
        if missing:
            raise ValueError(f"{path}: line {line_number}: {', '.join(sorted(missing))} is missing")
        records.append(record)
    return records[::-1]


def find(records: Sequence[dict[str, Any]], cell: PaperCell) -> dict[str, Any] | None:
    """The newest record with a cell's network, task and quantity, on any data; None if there is none."""
    return next((record for record in records if _matches(record, cell)), None)


def value_of(record: dict[str, Any], cell: PaperCell) -> float:
    """A record's value of a cell's quantity, in percent."""
    return 100 * float(record["metrics"][_metric(cell)])


def _matches(record: dict[str, Any], cell: PaperCell) -> bool:
    task = TASK_OF_TABLE.get(cell.table)
    has_data = task != "classification" or (record["data"] == DOGS) == (cell.table == DOGS_TABLE)
    has_value = record["metrics"].get(_metric(cell)) is not None
    return record["task"] == task and has_data and has_value and _network(record) == NETWORKS.get(cell.row, cell.row)


def _network(record: dict[str, Any]) -> str:
    """Its name in the paper's rows; "" if they do not have it."""
    settings = record["settings"]
    size = settings["data.input_size"]
    name = f"{settings['backbone.name'].removesuffix(f'_{size}')}_{size}"
    if record["task"] == "detection":
        return f"{settings['model']}_{size} mobilenet" if name.startswith("mobilenet_1.0_") else ""
    if record["task"] == "geolocation" and settings["method"] == "retrieval":
        return ""  # on MobileNet's features: not the paper's Im2GPS
    return name


def _metric(cell: PaperCell) -> str:
    return METRICS.get(cell.quantity, cell.quantity)
