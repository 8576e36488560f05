"""The repository's root folder and its code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("backbone", "datasets", "distill", "tasks")


def child_environment() -> dict[str, str]:
    """Environment variables with which `python -m tasks...` runs from any working folder."""
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])])}


def code_digest() -> str:
    """A hash of the code that trains and predicts, by which machines see that they have the same version."""
    digest = hashlib.sha256()
    for path in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
