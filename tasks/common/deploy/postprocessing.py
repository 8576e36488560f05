"""Postprocessing inside an exported file: a second ONNX graph, behind the network's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

OPSET = 20  # what `torch.onnx.export` writes here
_PREFIX = "postprocessing_"


def parse_graph(text: str, **constants: NDArray[Any] | float | int) -> GraphProto:
    """An ONNX graph from its textual syntax.

    Args:
        text: the graph; its inputs have the names of the network's raw outputs.
        constants: what it uses besides, by name; a float becomes float32, an integer int64.

    Source: https://github.com/onnx/onnx/blob/main/docs/Syntax.md
    """
    import onnx  # slow to import

    graph = onnx.parser.parse_graph(text)
    used = {name for node in graph.node for name in node.input}
    for name, value in constants.items():
        if name not in used:
            continue  # of another variant of the graph
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return graph


def append_graph(network: ModelProto, graph: GraphProto) -> ModelProto:
    """The network followed by the graph, whose outputs are those of the whole; the network's own are dropped.

    Args:
        network: with its properties, which the result has, too.
        graph: its inputs are outputs of the network.
    """
    import onnx

    versions = [version for version in network.opset_import if version.domain == ""]
    assert [version.version for version in versions] == [OPSET], versions
    tail = onnx.helper.make_model(graph, opset_imports=versions, ir_version=network.ir_version)
    tail = onnx.compose.add_prefix(tail, _PREFIX, rename_outputs=False)
    shared = [(value.name, _PREFIX + value.name) for value in graph.input]
    del network.graph.value_info[:]
    whole = onnx.compose.merge_models(network, tail, io_map=shared, outputs=[value.name for value in graph.output])
    onnx.helper.set_model_props(whole, {entry.key: entry.value for entry in network.metadata_props})
    return whole
