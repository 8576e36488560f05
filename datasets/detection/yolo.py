"""YOLO."""

from pathlib import Path

from datasets.detection.annotated import AnnotatedImages
from datasets.splits import SplitData

EXPECTED = "YOLO's text files (class x_centre y_centre width height, as fractions), beside the images or in labels/"


def find_yolo(root: Path) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with such annotations; None if it has none."""
    return None
