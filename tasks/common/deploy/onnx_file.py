"""ONNX export, and exported files as networks.

Input: uint8 RGB pixels (N, 3, S, S) for any batch size N; normalisation is part of the network. Outputs: the fields of
the task's raw outputs. Properties of the file: the task's name, and the model's metadata as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from datasets.files import atomic_write
from datasets.words import reason_of
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.inference import inference_copy
from tasks.common.deploy.postprocessing import append_graph
from tasks.common.deploy.session import INPUT, METADATA, PREDICTOR, SETTINGS, TASK
from tasks.common.inference_task import InferenceTask
from tasks.common.settings import get_setting

if TYPE_CHECKING:
    from onnx import GraphProto


class ExportedNetwork(nn.Module):
    """A file written by `write_onnx` or `quantize`, run by ONNX Runtime on the CPU, in place of its network.

    Attributes:
        model: the file.
    """

    def __init__(self, model: ExportedModel) -> None:
        """Take an opened file.

        Raises:
            ValueError: if it has its postprocessing inside.
        """
        super().__init__()
        if model.has_postprocessing:
            raise ValueError(
                f"{model.path}: has its postprocessing inside, and no raw outputs; export the run with --raw, or give "
                "the run"
            )
        self.model = model
        self._digest = torch.frombuffer(bytearray(model.digest), dtype=torch.uint8)
        self._outputs = namedtuple("Outputs", model.output_names)  # type: ignore[misc]

    def get_extra_state(self) -> Tensor:
        """A hash of the file, in place of the weights, which are in ONNX Runtime."""
        return self._digest

    def forward(self, images: Tensor) -> Any:
        """uint8 RGB (N, 3, S, S) -> the raw outputs of the exported network."""
        return self._outputs(*map(torch.from_numpy, self.model.run(images.cpu().numpy())))


def write_onnx(network: nn.Module, input_size: int, path: Path, task: str, metadata: Mapping[str, Any]) -> None:
    """Export a network in float32, without the parts that only training needs.

    Args:
        network: uint8 RGB (N, 3, S, S) -> a NamedTuple of tensors. Its `onnx_operators`, if it has any, are the
            `custom_translation_table` of `torch.onnx.export`.
        input_size: S.
        path: the file to write.
        task: name of the network's task.
        metadata: of the model (label map, ...).

    Raises:
        ValueError: if torch cannot export the network, for example because its control flow depends on the image.
    """
    model = inference_copy(network)
    images = torch.zeros(2, 3, input_size, input_size, dtype=torch.uint8)
    with torch.inference_mode():
        names = model(images)._fields
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # warnings, and whole graphs if it fails
            program = torch.onnx.export(
                model,
                (images,),
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                custom_translation_table=getattr(model, "onnx_operators", None),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types
        reason = reason_of(error.__cause__ or error)  # the exporter's own message only says which step failed
        raise ValueError(
            f"{type(network).__name__} cannot be exported to ONNX by torch {torch.__version__}: {reason}"
        ) from error
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        program.save(plain)
        write_with_properties(plain, path, {TASK: task, METADATA: json.dumps(metadata)})


def add_postprocessing(path: Path, graph: GraphProto, task: InferenceTask[Any]) -> None:
    """Put a graph behind the network in an exported file, with the settings that it has built in.

    Args:
        path: the file, which is replaced.
        graph: from the network's raw outputs to predictions.
        task: of the network.
    """
    import onnx  # slow to import

    whole = append_graph(onnx.load(path), graph)
    added = {
        SETTINGS: {key: get_setting(task.config, key) for key in task.config.BUILT_IN},
        PREDICTOR: task.predictor_settings(),
    }
    properties = {entry.key: entry.value for entry in whole.metadata_props}
    onnx.helper.set_model_props(whole, properties | {key: json.dumps(value) for key, value in added.items()})
    with atomic_write(path) as temporary:
        onnx.save(whole, temporary)


def write_with_properties(plain: Path, path: Path, properties: Mapping[str, str]) -> None:
    """Write an ONNX file again, as a whole or not at all, with those properties."""
    import onnx  # slow to import

    model = onnx.load(plain)
    onnx.helper.set_model_props(model, dict(properties))
    with atomic_write(path) as temporary:
        onnx.save(model, temporary)
