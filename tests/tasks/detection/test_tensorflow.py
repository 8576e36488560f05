"""TensorFlow's published detectors: graphs made here against a plain forward pass, the real one against others'."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

from datasets.images.read import read_image
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.onnx_file import add_postprocessing, write_onnx
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runs.pretrained import adopt_settings, open_pretrained, use_pretrained
from tasks.common.settings import replace_settings
from tasks.common.weights import TaskWeights
from tasks.detection.config import DetectionConfig
from tasks.detection.graph_def import read_constants
from tasks.detection.metric import DetectionMetric
from tasks.detection.task import DetectionTask

Arrays = dict[str, np.ndarray]
NETWORKS = ("ssd_mobilenet_v1", "ssd_mobilenet_v2", "ssdlite_mobilenet_v2")
EXTRA = ((256, 512), (128, 256), (128, 256), (64, 128))
FLOAT, HALF, INT32 = 1, 19, 3
SIDE = 140  # with odd and even feature maps: 70, 35, 18, 9, 5, 3, 2, 1, 1


class PlainSSD:
    """The detectors as TensorFlow builds them, by name and layout, with random weights made at their first use.

    It computes in double precision, since random layers amplify rounding.
    """

    def __init__(self, num_outputs: int = 91) -> None:
        self.arrays: Arrays = {}
        self._rng = np.random.default_rng(0)
        self._num_outputs = num_outputs

    def _weight(self, name: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        if name not in self.arrays:
            self.arrays[name] = self._rng.uniform(low, high, shape).astype(np.float32)
        return torch.from_numpy(self.arrays[name]).double()

    def _convolve(self, x: Tensor, scope: str, channels: int, size: int, stride: int = 1) -> Tensor:
        """With padding 'SAME'; depthwise if there are no output channels."""
        kind, shape = ("weights", (size, size, x.shape[1], channels))
        if not channels:
            kind, shape = ("depthwise_weights", (size, size, x.shape[1], 1))
        scale = math.sqrt(6 / (size * size * (x.shape[1] if channels else 1)))
        kernel = self._weight(f"{scope}/{kind}", shape, -scale, scale)
        total = max((math.ceil(x.shape[2] / stride) - 1) * stride + size - x.shape[2], 0)
        padded = functional.pad(x, (total // 2, total - total // 2) * 2)
        if channels:
            return functional.conv2d(padded, kernel.permute(3, 2, 0, 1), stride=stride)
        return functional.conv2d(padded, kernel.permute(2, 3, 0, 1), stride=stride, groups=x.shape[1])

    def layer(
        self, x: Tensor, scope: str, channels: int, size: int = 1, stride: int = 1, *, is_linear: bool = False
    ) -> Tensor:
        """Convolution, batch normalisation, ReLU6."""
        x = self._convolve(x, scope, channels, size, stride)
        values = [
            self._weight(f"{scope}/BatchNorm/{name}", (x.shape[1],), *bounds)[:, None, None]
            for name, bounds in {
                "gamma": (0.5, 1.5),
                "beta": (-0.5, 1),
                "moving_mean": (-0.3, 0.3),
                "moving_variance": (0.01, 1),
            }.items()
        ]
        gamma, beta, mean, variance = values
        x = gamma * (x - mean) / torch.sqrt(variance + 0.001) + beta
        return x if is_linear else x.clamp(0, 6)

    def __call__(self, images: Tensor, network: str) -> tuple[Tensor, Tensor]:
        """Class logits (N, A, 91) and box encodings (N, A, 4) ty, tx, th, tw."""
        x = images.double() * (2 / 255) - 1
        maps = self._body_v1(x) if "v1" in network else self._body_v2(x)
        for index, (squeezed, channels) in enumerate(EXTRA, 2):
            root = "MobilenetV1/Conv2d_13_pointwise" if "v1" in network else "MobilenetV2/layer_19"
            x = self.layer(maps[-1], f"FeatureExtractor/{root}_1_Conv2d_{index}_1x1_{squeezed}", squeezed)
            scope = f"FeatureExtractor/{root}_2_Conv2d_{index}_3x3_s2_{channels}"
            if "v1" in network:
                x = self.layer(x, scope, channels, 3, 2)
            else:
                x = self.layer(self.layer(x, f"{scope}_depthwise", 0, 3, 2), scope, channels)
            maps.append(x)
        outputs: list[list[Tensor]] = [[], []]
        for index, feature_map in enumerate(maps):
            for rows, name, size in (
                (outputs[0], "ClassPredictor", self._num_outputs),
                (outputs[1], "BoxEncodingPredictor", 4),
            ):
                scope, channels = f"BoxPredictor_{index}/{name}", (6 if index else 3) * size
                x = feature_map
                if "lite" in network:
                    x = self.layer(x, f"{scope}_depthwise", 0, 3)
                x = self._convolve(x, scope, channels, 3 if network == "ssd_mobilenet_v2" else 1)
                x = x + self._weight(f"{scope}/biases", (channels,), -1, 1)[:, None, None]
                rows.append(x.permute(0, 2, 3, 1).reshape(len(x), -1, size))
        return torch.cat(outputs[0], 1), torch.cat(outputs[1], 1)

    def _body_v1(self, x: Tensor) -> list[Tensor]:
        root = "FeatureExtractor/MobilenetV1/Conv2d_"
        x = self.layer(x, f"{root}0", 32, 3, 2)
        for index, channels in enumerate([64, 128, 128, 256, 256, *[512] * 6, 1024, 1024], 1):
            x = self.layer(x, f"{root}{index}_depthwise", 0, 3, 2 if index in (2, 4, 6, 12) else 1)
            x = self.layer(x, f"{root}{index}_pointwise", channels)
            if index == 11:
                finest = x
        return [finest, x]

    def _body_v2(self, x: Tensor) -> list[Tensor]:
        root = "FeatureExtractor/MobilenetV2/"
        x = self.layer(x, f"{root}Conv", 32, 3, 2)
        strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
        for index, channels in enumerate([16, 24, 24, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]):
            scope = f"{root}expanded_conv_{index}" if index else f"{root}expanded_conv"
            expanded = self.layer(x, f"{scope}/expand", 6 * x.shape[1]) if index else x
            if index == 13:
                finest = expanded
            y = self.layer(
                self.layer(expanded, f"{scope}/depthwise", 0, 3, strides[index]),
                f"{scope}/project",
                channels,
                is_linear=True,
            )
            x = x + y if y.shape == x.shape else y
        return [finest, self.layer(x, f"{root}Conv_1", 1280)]


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + [groups[-1]])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def node(name: str, op: str, **attributes: bytes) -> bytes:
    """A NodeDef in a GraphDef, byte by byte: https://protobuf.dev/programming-guides/encoding."""
    attrs = [block(5, block(1, key.encode()) + block(2, value)) for key, value in attributes.items()]
    return block(1, block(1, name.encode()) + block(2, op.encode()) + block(3, b"some/input") + b"".join(attrs))


def constant(name: str, dtype: int, shape: tuple[int, ...], values: bytes) -> bytes:
    """A node of op Const; `values` is a field of TensorProto."""
    dims = b"".join(block(2, number(1, size)) for size in shape)
    return node(name, "Const", dtype=number(6, dtype), value=block(8, number(1, dtype) + block(2, dims) + values))


def write_graph(path: Path, arrays: Arrays) -> Path:
    """A frozen graph with these weights, and other nodes."""
    parts = [node("image_tensor", "Placeholder", dtype=number(6, 4))]
    parts.append(constant("Preprocessor/size", INT32, (2,), block(7, varint(300) * 2)))
    for name, array in arrays.items():
        parts.append(constant(name, FLOAT, array.shape, block(4, array.tobytes())))
        parts.append(node(f"{name}/read", "Identity", T=number(6, FLOAT)))
    path.write_bytes(b"".join(parts))
    return path


def network_of(weights: TaskWeights, **settings: Any) -> tuple[DetectionTask, Any]:
    config = replace_settings(adopt_settings(DetectionConfig(), weights, "detection"), settings)
    task = DetectionTask(config, weights.metadata)
    network = task.build_model()
    network.load_state_dict(weights.state)
    return task, network.eval()


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Arrays, Tensor, Tensor, Tensor]]:
    """A function from a network's name to its file, weights, an image and the raw outputs for it; made once each."""
    made: dict[str, tuple[Path, Arrays, Tensor, Tensor, Tensor]] = {}

    def make(name: str) -> tuple[Path, Arrays, Tensor, Tensor, Tensor]:
        if name not in made:
            ssd = PlainSSD()
            image = torch.randint(
                0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
            )
            logits, encodings = ssd(image, name)
            folder = tmp_path_factory.mktemp(name)
            made[name] = (
                write_graph(folder / "frozen_inference_graph.pb", ssd.arrays),
                ssd.arrays,
                image,
                logits,
                encodings,
            )
        return made[name]

    return make


@pytest.mark.parametrize("name", NETWORKS)
def test_raw_outputs_are_those_of_a_plain_forward_pass(name: str, graphs: Any) -> None:
    path, _, image, logits, encodings = graphs(name)
    weights = DetectionTask.read_published(path)
    assert weights is not None
    task, network = network_of(weights, **{"data.input_size": SIDE})
    with torch.no_grad():
        outputs = network.double()(image)
    ids = weights.metadata["category_ids"]
    assert (len(ids), ids[0], ids[-1]) == (80, 1, 90)
    torch.testing.assert_close(outputs.class_logits, logits[..., ids], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outputs.box_deltas[..., [1, 0, 3, 2]], encodings, atol=1e-6, rtol=1e-6)
    assert logits.std() > 0.1
    assert task.config.nms_iou == 0.6


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recipe_for_another_detector_leaves_nothing_in_a_published_one(name: str, graphs: Any) -> None:
    weights = DetectionTask.read_published(graphs(name)[0])
    assert weights is not None
    other = {"model": "faster_rcnn", "ssd.neck": "fpn", "ssd.anchors": "torchvision", "ssd.finest_map": "expansion"}
    configs = [
        adopt_settings(replace_settings(DetectionConfig(), settings), weights, "detection") for settings in ({}, other)
    ]
    assert configs[0] == configs[1]


def test_classes_are_the_80_named_ones_of_coco(graphs: Any) -> None:
    metadata = DetectionTask.read_published(graphs("ssd_mobilenet_v1")[0]).metadata  # type: ignore[union-attr]
    names = dict(zip(metadata["category_ids"], metadata["class_names"], strict=True))
    assert (names[1], names[10], names[13], names[90]) == ("person", "traffic light", "stop sign", "toothbrush")
    assert len(names) == 80
    assert names.keys().isdisjoint({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})


def test_constants_are_read_in_every_encoding(tmp_path: Path) -> None:
    path, halves = tmp_path / "graph.pb", np.array([[1.5, -2], [0.25, 8]], np.float16)
    floats = np.array([1.5, -2, 3], np.float32)
    path.write_bytes(
        constant("content", FLOAT, (3,), block(4, floats.tobytes()))
        + constant("half", HALF, (2, 2), block(4, halves.tobytes()))
        + constant("packed", FLOAT, (3,), block(5, floats.tobytes()))
        + constant("unpacked", FLOAT, (3,), b"".join(varint(5 << 3 | 5) + value.tobytes() for value in floats))
        + constant("half bits", HALF, (2, 2), block(13, b"".join(map(varint, halves.view(np.uint16).ravel().tolist()))))
        + constant("repeated", FLOAT, (2, 3), block(5, floats[:2].tobytes()))
        + constant("scalar", FLOAT, (), block(5, floats[:1].tobytes()))
        + constant("integers", INT32, (2,), block(7, varint(7) * 2))
        + node("not a constant", "Relu6", T=number(6, FLOAT))
    )
    constants = read_constants(path)
    expected = dict.fromkeys(("content", "packed", "unpacked"), floats) | {"half": halves, "half bits": halves}
    expected |= {"repeated": np.array([[1.5, -2, -2], [-2, -2, -2]]), "scalar": np.array(1.5)}
    assert constants.keys() == expected.keys()
    for name, values in expected.items():
        assert constants[name].dtype == np.float32
        np.testing.assert_array_equal(constants[name], values)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused_in_one_line(fraction: float, graphs: Any, tmp_path: Path) -> None:
    content = graphs("ssd_mobilenet_v1")[0].read_bytes()
    path = tmp_path / "graph.pb"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: [^\n]+$"):
        DetectionTask.read_published(path)


def test_a_missing_weight_is_named(graphs: Any, tmp_path: Path) -> None:
    missing = "FeatureExtractor/MobilenetV2/expanded_conv_7/project/BatchNorm/beta"
    arrays = {name: array for name, array in graphs("ssd_mobilenet_v2")[1].items() if name != missing}
    path = write_graph(tmp_path / "graph.pb", arrays)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: not the whole network: it has no {missing}$"):
        DetectionTask.read_published(path)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.full((3, 3, 3, 32), np.nan, np.float32), "damaged: {} has values that are not finite"),
        (np.zeros((27, 32), np.float32), "made for another network: {} is (27, 32), but a kernel has four axes"),
    ],
)
def test_a_damaged_or_other_kernel_is_named(array: np.ndarray, problem: str, graphs: Any, tmp_path: Path) -> None:
    name = "FeatureExtractor/MobilenetV1/Conv2d_0/weights"
    path = write_graph(tmp_path / "graph.pb", graphs("ssd_mobilenet_v1")[1] | {name: array})
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {problem.format(name)}')}$"):
        DetectionTask.read_published(path)


def test_networks_of_other_kinds_and_classes_are_refused(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "graph.pb", {"InceptionV2/Conv/weights": np.zeros((1, 1, 3, 8), np.float32)})
    with pytest.raises(ValueError, match="neither FeatureExtractor/MobilenetV1/Conv2d_0/weights nor Feature"):
        DetectionTask.read_published(path)
    ssd = PlainSSD(num_outputs=4)
    ssd(torch.zeros(1, 3, 64, 64), "ssd_mobilenet_v1")
    path = write_graph(path, ssd.arrays)
    with pytest.raises(ValueError, match=r"expected a network for COCO, with 91 outputs an anchor, but it has 4$"):
        DetectionTask.read_published(path)
    (tmp_path / "photo.png").write_bytes(b"not a graph")
    assert DetectionTask.read_published(tmp_path / "photo.png") is None


FILE = "weights/tasks/ssd_mobilenet_v2_coco_2018_03_29.pb"


@pytest.fixture(scope="module")
def published(shared: Path) -> tuple[DetectionTask, Any]:
    weights = DetectionTask.read_published(shared / FILE)
    assert weights is not None
    return network_of(weights)


@pytest.fixture(scope="module")
def reference(shared: Path) -> Any:
    return np.load(shared / "weights/tasks/ssd_mobilenet_v2_coco_reference.npz")


def outputs_of(network: Any, pixels: np.ndarray) -> Any:
    with torch.no_grad():
        return network(torch.from_numpy(pixels).permute(2, 0, 1)[None])


@pytest.mark.data
@pytest.mark.parametrize("index", [0, 1])
def test_raw_outputs_equal_an_independent_forward_pass(index: int, published: Any, reference: Any) -> None:
    task, network = published
    outputs = outputs_of(network, reference[f"input_{index}"])
    expected = reference[f"class_logits_{index}"][:, task.metadata["category_ids"]]
    np.testing.assert_allclose(outputs.class_logits[0].numpy(), expected, atol=2e-4)
    boxes = outputs.box_deltas[0][:, [1, 0, 3, 2]].numpy()
    np.testing.assert_allclose(boxes, reference[f"box_encodings_{index}"], atol=2e-4)


@pytest.mark.data
@pytest.mark.parametrize("index", range(5))
def test_detections_equal_those_of_opencv(index: int, published: Any, reference: Any) -> None:
    """It computes them from the graph in full precision, and of each class takes the 100 best anchors before NMS."""
    task, network = published
    outputs = outputs_of(network, reference[f"input_{index}"])
    task = task.with_settings(replace_settings(task.config, {"max_detections": 500}))
    (detections,) = task.decode(outputs)
    ids = np.array(task.metadata["category_ids"])[detections.class_ids]
    ours = torch.from_numpy(detections.boxes_xyxy / 300)
    rows = reference[f"opencv_{index}"]
    rows = rows[rows[:, 2] > 0.05]
    for _, category_id, score, *box in rows:
        ious = box_iou(torch.tensor([box]).clamp(0, 1), ours)[0].numpy()
        assert detections.scores is not None
        near = (ids == category_id) & (abs(detections.scores - score) < 0.01)
        assert (ious[near] > 0.95).any(), (category_id, score)
    has_few = ((outputs.class_logits[0].sigmoid() > 0.01).sum(0) < 100).numpy()[detections.class_ids]
    found = rows[np.isin(rows[:, 1], ids[has_few])]
    assert (detections.scores[has_few] > 0.05).sum() == len(found) > 0


@pytest.mark.data
def test_average_precision_on_coco128_is_the_published_files(shared: Path, published: Any) -> None:
    """That of a plain forward pass from the same file, by pycocotools: see ../shared/weights/README.md."""
    task, network = published
    task = task.with_settings(replace_settings(task.config, {"data.root": str(shared / "data/coco128")}))
    metric, preprocess = DetectionMetric(task.class_names), task.preprocessing()
    for example in map(task.source("val").__getitem__, range(128)):
        metric.update(task.decode(outputs_of(network, preprocess(example.image))), [example.truth])
    scores = metric.compute()
    assert scores["AP"] == pytest.approx(0.372, abs=0.002)
    assert scores["AP50"] == pytest.approx(0.544, abs=0.002)


@pytest.mark.data
def test_the_exported_file_has_the_boxes_of_pytorch(shared: Path, published: Any, tmp_path: Path) -> None:
    """On photos, where scores are not tied: 80 classes, so that the best candidates are chosen first."""
    task, network = published
    write_onnx(network, task.config.data.input_size, tmp_path / "model.onnx", task.name, task.metadata)
    add_postprocessing(tmp_path / "model.onnx", task.postprocessing(network), task)
    exported, num_boxes = ExportedModel(tmp_path / "model.onnx"), 0
    for photo in sorted((shared / "data/coco128/val2017").glob("*.jpg"))[:8]:
        pixels = task.preprocessing()(read_image(photo))
        (expected,), (actual,) = task.decode(outputs_of(network, pixels)), task.read_outputs(exported([pixels]))
        np.testing.assert_array_equal(actual.class_ids, expected.class_ids)
        np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
        np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-5)
        num_boxes += len(actual)
    assert num_boxes > 600


@pytest.mark.data
def test_fine_tuning_keeps_known_classes_and_all_else(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def kept(folder: str) -> str:
        config = replace_settings(
            DetectionConfig(), {"pretrained": str(shared / FILE), "data.root": str(shared / f"data/{folder}")}
        )
        use_pretrained(DetectionTask.from_data(config))
        return capsys.readouterr().err.strip().rpartition("tensors are from them: ")[2]

    assert kept("bccd") == "the backbone (260), the neck (60), the box predictors (12)"
    assert kept("yolo_fruit").endswith("the class predictors of 3 of 3 classes (12)")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_published_name_opens_its_file(
    name: str, graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From torch's download folder, where the archive's file was put; its digest is stored, and compared later."""
    row = next(row for row in PUBLISHED_MODELS if row.name == f"{name}_coco")
    assert row.member == row.file
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / row.file.replace("/", "-")
    path.parent.mkdir()
    path.write_bytes(graphs(name)[0].read_bytes())
    weights = open_pretrained(replace_settings(DetectionConfig(), {"pretrained": row.name}), "detection")
    assert isinstance(weights, TaskWeights)
    assert weights.origin == str(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"its SHA-256 is .*, but the one stored in"):
        open_pretrained(replace_settings(DetectionConfig(), {"pretrained": row.name}), "detection")
