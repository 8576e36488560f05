"""Small data sets for the tests of the readers with an annotation file for each image."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.detection.annotated import AnnotatedImages
from datasets.images.read import write_image


def write(root: Path, files: Mapping[str, Any]) -> Path:
    """Files by name, with text or a value for JSON; images have 60 x 40 pixels."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".png", ".jpg"}:
            write_image(path, np.zeros((40, 60, 3), np.uint8))
        else:
            path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return root


def names(source: AnnotatedImages) -> list[str]:
    """The names of the images, relative to the root."""
    return [source.images.name(row) for row in range(len(source))]
