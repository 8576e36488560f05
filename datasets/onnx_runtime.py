"""ONNX Runtime without its telemetry."""

from __future__ import annotations

import importlib
import os
from typing import Any


def import_onnxruntime() -> Any:
    """The package `onnxruntime`, which is slow to import.

    Its official builds send events to Microsoft, and leave an identifier in the temporary folder, unless this variable
    is set when they are imported (its Privacy.md: "Disabling Telemetry").
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")
