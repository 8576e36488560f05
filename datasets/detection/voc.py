"""VOC."""

from pathlib import Path

from datasets.detection.annotated import AnnotatedImages
from datasets.splits import SplitData

EXPECTED = "Pascal VOC's XML files, in Annotations/ or beside the images"


def find_voc(root: Path) -> SplitData[AnnotatedImages] | None:
    """The splits of a folder with such annotations; None if it has none."""
    return None
