"""Sizes of images that their annotations lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.images.headers import ImageHeader
from datasets.images.read import image_headers
from datasets.progress import track
from datasets.stores import ImageStore


def fill_sizes(
    images: ImageStore, sizes_hw: NDArray[np.int64], origin: Path | str
) -> tuple[NDArray[np.int64], list[str]]:
    """Sizes (N, 2) with those of the files where there are none, and a warning that counts them.

    Args:
        images: N.
        sizes_hw: (N, 2), 0 where unknown; they stay 0 where the file cannot be read.
        origin: the annotations, for messages.
    """
    rows = np.flatnonzero((sizes_hw <= 0).any(1))
    if not len(rows):
        return sizes_hw, []
    filled = sizes_hw.copy()
    headers = image_headers(rows.tolist(), images.header)
    for row, header in zip(rows, track(headers, "reading headers of images", len(rows)), strict=True):
        filled[row] = (header.height, header.width) if isinstance(header, ImageHeader) else 0
    return filled, [f"{origin}: {len(rows)} of {len(images)} images have no size in it; that of the file is taken"]


def as_size(value: Any) -> int:
    """A number of pixels, perhaps as text; 0 if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return int(number) if 1 <= number < 1 << 31 else 0
