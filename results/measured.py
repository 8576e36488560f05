"""What we have measured: one line of JSON for each evaluation that was asked to be recorded (`evaluate --record`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.paper import DOGS_TABLE, NETWORKS, PaperCell

MEASURED = Path(__file__).with_name("measured.jsonl")
# Whose evaluations say something of a table, and what a metric is called here.
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
    """All records, the newest first; none where there is no file.

    Raises:
        ValueError: naming the line, if one cannot be read.
    """
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record: dict[str, Any] = json.loads(line)
            missing = {"task", "data", "split", "metrics", "settings"} - record.keys()
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(f"{path}: line {number}: not a record of evaluate --record") from error
        if missing:
            raise ValueError(f"{path}: line {number}: {', '.join(sorted(missing))} is missing")
        records.append(record)
    return records[::-1]


def find(records: Sequence[dict[str, Any]], cell: PaperCell) -> dict[str, Any] | None:
    """The newest record of a cell's network, task and quantity, on whatever data; None where there is none."""
    return next((record for record in records if _is_of(record, cell)), None)


def value_of(record: dict[str, Any], cell: PaperCell) -> float:
    """What a record says of a cell's quantity, in percent."""
    return 100 * float(record["metrics"][_metric(cell)])


def _is_of(record: dict[str, Any], cell: PaperCell) -> bool:
    task = TASK_OF_TABLE.get(cell.table)
    is_of_data = task != "classification" or (record["data"] == DOGS) == (cell.table == DOGS_TABLE)
    has_value = record["metrics"].get(_metric(cell)) is not None
    return record["task"] == task and is_of_data and has_value and _network(record) == NETWORKS.get(cell.row, cell.row)


def _network(record: dict[str, Any]) -> str:
    """As the paper's rows call it; "" where they have none."""
    settings = record["settings"]
    size = settings["data.input_size"]
    name = f"{settings['backbone.name'].removesuffix(f'_{size}')}_{size}"
    if record["task"] == "detection":
        return f"{settings['model']}_{size} mobilenet" if name.startswith("mobilenet_1.0_") else ""
    if record["task"] == "geolocation" and settings["method"] == "retrieval":
        return ""  # of MobileNet's features: not the paper's Im2GPS
    return name


def _metric(cell: PaperCell) -> str:
    return METRICS.get(cell.quantity, cell.quantity)
