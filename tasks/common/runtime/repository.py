"""The folder that the suite runs from."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def child_environment() -> dict[str, str]:
    """The environment in which `python -m tasks...` finds this repository, whatever the working folder is."""
    others = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *([others] if others else [])])}
