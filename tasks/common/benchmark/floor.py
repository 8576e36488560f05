"""The machine's own rate: one large matrix product, in float32 and in 8 bits.

A network's time is compared with that of its mult-adds at this rate. ONNX Runtime computes both products, since its
kernels come near the hardware's peak on processors of any maker: on an AMD EPYC with AVX-512 PyTorch's float32 product,
which is MKL's, reaches half of it. The 8-bit product is of unsigned and signed integers with sums of 32 bits, as the
layers of a quantised network are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.common.deploy.session import open_session

Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
SIDE = 1024  # of the square matrices; all three fit into a cache of level 2 or 3
MULT_ADDS = SIDE**3


def product_call(precision: Precision, num_threads: int, folder: Path) -> Callable[[], Any]:
    """A call that multiplies two matrices.

    Args:
        precision: of their elements.
        num_threads: that it uses.
        folder: for a file.
    """
    import onnx  # slow to import

    rng, shape = np.random.default_rng(0), (SIDE, SIDE)
    left: NDArray[Any]
    if precision == "float32":
        left, right = (rng.standard_normal(shape, np.float32) for _ in range(2))
        operator, sums = "MatMul", onnx.TensorProto.FLOAT
    else:
        left, right = rng.integers(0, 256, shape, np.uint8), rng.integers(-128, 128, shape, np.int8)
        operator, sums = "MatMulInteger", onnx.TensorProto.INT32
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [onnx.helper.make_tensor_value_info("left", onnx.helper.np_dtype_to_tensor_dtype(left.dtype), shape)],
        [onnx.helper.make_tensor_value_info("product", sums, shape)],
        [onnx.numpy_helper.from_array(right, "right")],  # constant, as weights are
    )
    path = folder / f"{operator}.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)
    session = open_session(path, num_threads)
    return lambda: session.run(None, {"left": left})
