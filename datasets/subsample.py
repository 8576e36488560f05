"""Evenly spread samples, where looking at everything would take too long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_spread(total: int, limit: int) -> NDArray[np.int64]:
    """Indices below a total, evenly spread; all of them if they are no more than the limit."""
    return np.arange(total) if total <= limit else np.linspace(0, total - 1, limit).astype(np.int64)
