"""Our networks as ONNX files, in floats or in 8 bits, and such a file as a network again.

A file takes plain pixels, uint8 RGB (N, 3, S, S) for any N, since a network normalises them itself, and gives the
task's raw outputs under their names; what these stand for is in its metadata.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
from collections import namedtuple
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datasets.files import atomic_write
from datasets.types import Image
from tasks.common.deployed import as_deployed
from tasks.common.onnx_network import open_session

INPUT = "images"
MODEL = "model.onnx"  # in a run folder that `export` made, instead of checkpoints
TASK, VOCABULARY = "task", "vocabulary"  # of the metadata
LAST_LAYERS = ["Gemm", "MatMul"]  # their outputs stay floats: scores and embeddings are compared with each other
QUANTIZED = ["Conv", "Add", "Clip", "Relu", *LAST_LAYERS]


class ExportedNetwork(nn.Module):
    """A file that `write_onnx` or `quantize` wrote, on the CPU.

    Attributes:
        input_size: side of its square input in pixels.
        task: that it is of.
        vocabulary: what its outputs stand for.
    """

    def __init__(self, path: Path, task: str | None = None) -> None:
        """Open a file.

        Args:
            path: the file.
            task: that it must be of; None for any.

        Raises:
            ValueError: if it is none of ours, or of another task.
        """
        super().__init__()
        self._session = open_session(path)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if TASK not in metadata:
            raise ValueError(f"{path}: not written by `export`: its metadata name no task")
        self.task: str = metadata[TASK]
        if task not in (None, self.task):
            raise ValueError(f"{path}: is of the {self.task} task, not of {task}")
        self.vocabulary: dict[str, Any] = json.loads(metadata[VOCABULARY])
        digest = hashlib.sha256(path.read_bytes()).digest()
        self._digest = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
        self.input_size: int = self._session.get_inputs()[0].shape[-1]
        self._outputs = namedtuple("Outputs", [output.name for output in self._session.get_outputs()])  # type: ignore[misc]

    def get_extra_state(self) -> Tensor:
        """What stands for the weights, which ONNX Runtime has: a hash of the file."""
        return self._digest

    def forward(self, images: Tensor) -> Any:
        """uint8 RGB (N, 3, S, S) -> the raw outputs of the network that was exported."""
        values = self._session.run(None, {INPUT: images.cpu().numpy()})
        return self._outputs(*map(torch.from_numpy, values))


def write_onnx(network: nn.Module, input_size: int, path: Path, task: str, vocabulary: Mapping[str, Any]) -> None:
    """Write a network in floats, without what only its training needs.

    Args:
        network: uint8 RGB (N, 3, S, S) -> a NamedTuple of tensors.
        input_size: S.
        path: the file.
        task: of the network.
        vocabulary: what its outputs stand for.

    Raises:
        ValueError: if what the network computes depends on what it sees, as the regions of Faster R-CNN do.
    """
    model = as_deployed(network)
    images = torch.zeros(2, 3, input_size, input_size, dtype=torch.uint8)
    with torch.inference_mode():
        names = model(images)._fields
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # warnings of constant outputs; whole graphs where it fails
            program = torch.onnx.export(
                model,
                (images,),
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # the exporter has many, some of them of its own
        raise ValueError(
            f"{type(network).__name__} has no ONNX form: what it computes depends on what it sees"
        ) from error
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        program.save(plain)
        _write_with_metadata(plain, path, {TASK: task, VOCABULARY: json.dumps(vocabulary)})


def quantize(floats: Path, path: Path, images: Iterable[Image]) -> None:
    """Write a file of `write_onnx` in 8 bits, with a scale for each channel of weights and for each map of activations.

    Depthwise layers need a scale for each channel: their channels differ much in size.

    Args:
        floats: the file.
        path: the new one.
        images: preprocessed ones, (S, S, 3); the ranges of activations are those that they have.

    Source: Krishnamoorthi 2018 (arXiv:1806.08342), section 3; Jacob et al. 2018 (arXiv:1712.05877), section 2.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._arriving = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._arriving, None)
            return None if image is None else {INPUT: np.ascontiguousarray(image.transpose(2, 0, 1)[None])}

    metadata = open_session(floats).get_modelmeta().custom_metadata_map
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(floats, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            Reader(),
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": LAST_LAYERS},
        )
        _write_with_metadata(quantized, path, metadata)


def _write_with_metadata(plain: Path, path: Path, metadata: Mapping[str, str]) -> None:
    import onnx  # slow to import

    model = onnx.load(plain)
    onnx.helper.set_model_props(model, dict(metadata))
    with atomic_write(path) as temporary:
        onnx.save(model, temporary)
