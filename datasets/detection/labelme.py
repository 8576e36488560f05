"""labelme."""

from pathlib import Path

from datasets.detection.annotated import AnnotatedImages
from datasets.splits import SplitData

EXPECTED = "labelme's JSON files beside the images"


def find_labelme(root: Path) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with such annotations; None if it has none."""
    return None
