"""A fake face detector in YuNet's format, and images in which it finds faces."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from datasets.types import Image

# Landmarks of the fake detector, in cells of 8 px from the red cell.
POINTS = np.array([(-1.5, -1), (1.5, -1), (0, 0.5), (-1, 2), (1, 2)], np.float32)


def write_detector(path: Path) -> str:
    """Write a network with YuNet's inputs and outputs that detects each cell of 8 x 8 red pixels as a face."""
    nodes, weights, outputs = [], [], []

    def convolve(name: str, kernel: np.ndarray, bias: np.ndarray, stride: int) -> None:
        weights.extend([numpy_helper.from_array(kernel, f"{name}_w"), numpy_helper.from_array(bias, f"{name}_b")])
        weights.append(numpy_helper.from_array(np.array([1, -1, len(bias)]), f"{name}_shape"))
        sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", ["input", f"{name}_w", f"{name}_b"], [f"{name}_map"], **sides))
        nodes.append(helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, len(bias)]))

    for stride in (8, 16, 32):
        red = np.zeros((1, 3, stride, stride), np.float32)
        if stride == 8:
            red[0, 2] = 1 / 255 / 64  # OpenCV's channel order is blue, green, red
            red[0, :2] = -1 / 255 / 64
        for name, kernel, bias in (
            ("cls", red, np.zeros(1, np.float32)),
            ("obj", red, np.zeros(1, np.float32)),
            ("bbox", np.zeros((4, 3, stride, stride), np.float32), np.array([0, 0, 1.5, 1.5], np.float32)),
            ("kps", np.zeros((10, 3, stride, stride), np.float32), POINTS.ravel()),
        ):
            convolve(f"{name}_{stride}", kernel, bias, stride)
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])
    order = sorted(outputs, key=lambda output: ("cls", "obj", "bbox", "kps").index(output.name.split("_")[0]))
    graph = helper.make_graph(nodes, "detector", [pixels], order, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def picture(height: int, width: int, *corners: tuple[int, int], side: int = 8) -> Image:
    """Grey-blue, with red squares at these corners (x, y)."""
    image = np.full((height, width, 3), (40, 60, 90), np.uint8)
    for x, y in corners:
        image[y : y + side, x : x + side] = (255, 0, 0)
    return image
