"""The constants of a TensorFlow graph, by the few fields of its protocol buffers that they need."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

_FIELD = descriptor_pb2.FieldDescriptorProto
# Message -> its fields: name, number, type, whether repeated. As in graph.proto, node_def.proto, attr_value.proto,
# tensor.proto and tensor_shape.proto (github.com/tensorflow/tensorflow, tensorflow/core/framework).
_MESSAGES: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
    "GraphDef": (("node", 1, "NodeDef", True),),
    "NodeDef": (
        ("name", 1, _FIELD.TYPE_STRING, False),
        ("op", 2, _FIELD.TYPE_STRING, False),
        ("attr", 5, "Attr", True),
    ),
    "Attr": (("key", 1, _FIELD.TYPE_STRING, False), ("value", 2, "AttrValue", False)),
    "AttrValue": (("tensor", 8, "TensorProto", False),),
    "TensorProto": (
        ("dtype", 1, _FIELD.TYPE_INT32, False),
        ("tensor_shape", 2, "TensorShapeProto", False),
        ("tensor_content", 4, _FIELD.TYPE_BYTES, False),
        ("float_val", 5, _FIELD.TYPE_FLOAT, True),
        ("half_val", 13, _FIELD.TYPE_INT32, True),
    ),
    "TensorShapeProto": (("dim", 2, "Dim", True),),
    "Dim": (("size", 1, _FIELD.TYPE_INT64, False),),
}
_FLOAT, _HALF = 1, 19  # of DataType in types.proto


def read_constants(path: Path) -> dict[str, NDArray[np.float32]]:
    """The floating-point constants of a frozen graph by the name of their node; other nodes are ignored.

    Raises:
        ValueError: if there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    graph = _message_class()()
    try:
        graph.ParseFromString(path.read_bytes())
        tensors = {
            node.name: attr.value.tensor
            for node in graph.node
            if node.op == "Const"
            for attr in node.attr
            if attr.key == "value"
        }
        return {name: _array(name, tensor) for name, tensor in tensors.items() if tensor.dtype in (_FLOAT, _HALF)}
    except DecodeError as error:
        raise ValueError(f"{path}: not a frozen graph of TensorFlow, or truncated") from error
    except ValueError as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _array(name: str, tensor: Any) -> NDArray[np.float32]:
    dtype = np.dtype("<f4" if tensor.dtype == _FLOAT else "<f2")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        values = np.frombuffer(tensor.tensor_content, dtype)
    elif tensor.dtype == _FLOAT:
        values = np.array(tensor.float_val, dtype)
    else:  # the bits of each number as an integer
        values = np.array(tensor.half_val, "<u2").view(dtype)
    size = math.prod(shape)
    if 0 < len(values) < size and not tensor.tensor_content:  # the last value stands for all that follow
        values = np.concatenate([values, np.full(size - len(values), values[-1])])
    if len(values) != size:
        raise ValueError(f"{name} has {len(values)} values, its shape {shape} has {size}")
    return values.reshape(shape).astype(np.float32)


@functools.cache
def _message_class() -> Any:
    """The class of GraphDef, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="graph.proto", package="frozen", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, is_repeated in fields:
            label = _FIELD.LABEL_REPEATED if is_repeated else _FIELD.LABEL_OPTIONAL
            if isinstance(kind, str):
                message.field.add(
                    name=field, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=f".frozen.{kind}"
                )
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("frozen.GraphDef"))
