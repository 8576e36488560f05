"""ONNX Runtime sessions, and the names in the files that `export` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.onnx_runtime import import_onnxruntime
from datasets.types import Image

INPUT = "images"
MODEL = "model.onnx"  # in place of checkpoints in a run folder written by `export`
TASK, METADATA = "task", "metadata"  # keys of the file's properties
SETTINGS, PREDICTOR = "settings", "predictor"  # likewise, of a file with its postprocessing inside


def open_session(path: Path, num_threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        path: of the file.
        num_threads: that one network uses; None for as many as there are cores.

    Raises:
        ValueError: if the file is missing or cannot be read.
    """
    onnxruntime = import_onnxruntime()
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    # Otherwise its threads keep spinning after a call and slow torch down.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    try:
        # Without its fallback, which prints five lines about a damaged file and tries the same again.
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime raises many types
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a network that ONNX Runtime can read ({reason})") from error


def properties_of(session: Any) -> dict[str, str]:
    """The properties of a session's file, such as those that `export` writes."""
    properties: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return properties


def stack_images(images: Sequence[Image]) -> NDArray[np.uint8]:
    """Preprocessed images (S, S, 3) -> an exported network's input (N, 3, S, S), contiguous."""
    batch = np.empty((len(images), *images[0].shape[::-1]), np.uint8)
    for image, planes in zip(images, batch, strict=True):
        cv2.split(image, list(planes))  # many times as fast as a transposed copy
    return batch


def fixed_input_size(path: Path) -> int | None:
    """The side of the square input that an ONNX file is made for; None if it takes other sizes.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    shape: list[Any] = open_session(path).get_inputs()[0].shape
    sides = {side for side in shape[1:] if isinstance(side, int) and side != 3}
    return sides.pop() if len(sides) == 1 else None


def describe_outputs(path: Path) -> list[str]:
    """Name and shape of each output of an ONNX file, such as "scores (N, 100)"."""
    return [f"`{node.name}` ({', '.join(map(str, node.shape))})" for node in open_session(path).get_outputs()]
