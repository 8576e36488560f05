"""The paper's tables as data: `paper.csv`, one number per row."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

PAPER = Path(__file__).with_name("paper.csv")
TITLES = {
    "2": "Mult-adds and parameters by layer type, in percent of the total",
    "3": "One layer of 14 x 14 x 512: full, depthwise separable, narrower, at lower resolution",
    "4": "Depthwise separable against full convolutions, ImageNet",
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
NETWORKS = {  # rows that are not named by backbone and input size -> our network
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
        row: network or layer.
        quantity: mult_adds, params, top1, ...
        value: as printed.
        unit: percent or million.
        note: on errors in print, or on what is counted.
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
        for line_number, row in enumerate(csv.DictReader(file), 2):
            try:
                value = float(row["value"])
                cells.append(
                    PaperCell(row["table"], row["row"], row["quantity"], value, row["unit"], row["note"] or "")
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: line {line_number}: expected table,row,quantity,value,unit,note") from error
    return cells
