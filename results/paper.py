"""The paper's tables as data: `paper.csv`, one number a row."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

PAPER = Path(__file__).with_name("paper.csv")
TITLES = {
    "2": "Share of mult-adds and of parameters by layer type, in percent",
    "3": "One layer of 14 x 14 x 512, full and factorised, then thinner, then smaller",
    "4": "Full convolutions against depthwise separable ones, ImageNet",
    "5": "Narrow against shallow, ImageNet",
    "6": "Width multiplier, ImageNet",
    "7": "Resolution, ImageNet",
    "8": "MobileNet against popular networks, ImageNet",
    "9": "Small MobileNet against small networks, ImageNet",
    "10": "Stanford Dogs",
    "11": "Geolocalization, Im2GPS's test photos",
    "12": "Face attributes, the paper's own data",
    "13": "Detection, COCO",
    "14": "FaceNet distilled",
}


DOGS_TABLE = "10"
NETWORKS = {  # of our networks, rows that are not called by backbone and input size
    "mobilenet": "mobilenet_1.0_224",
    "conv mobilenet": "mobilenet_1.0_conv_224",
    "shallow mobilenet": "mobilenet_1.0_shallow_224",
    "planet mobilenet": "mobilenet_1.0_224",
    "mobilenet_0.75": "mobilenet_0.75_224",
}


class PaperCell(NamedTuple):
    """One number of the paper.

    Attributes:
        table: 2 to 14.
        row: which network or layer.
        quantity: mult_adds, params, top1, ...
        value: as printed.
        unit: percent or million.
        note: what is wrong or special about it.
    """

    table: str
    row: str
    quantity: str
    value: float
    unit: str
    note: str


def read_paper(path: Path = PAPER) -> list[PaperCell]:
    """All numbers, in the paper's order.

    Raises:
        ValueError: naming the line, if one cannot be read.
    """
    cells = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                value = float(row["value"])
                cells.append(
                    PaperCell(row["table"], row["row"], row["quantity"], value, row["unit"], row["note"] or "")
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: line {number}: expected table,row,quantity,value,unit,note") from error
    return cells
