"""Teachers: each normalises for itself, knows whose outputs it has, and says in a line why it cannot teach."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from onnx import TensorProto, helper
from torch import Tensor, nn

from backbone.published import IMAGENET_CLASS_NAMES
from distill import teachers
from distill.config import OnnxConfig
from distill.facenet import load_facenet
from distill.inception_resnet import InceptionResnetV1
from distill.names import TEACHERS, parse_teacher
from distill.subjects import build_subject
from distill.teachers import at_input_size, open_teacher

ONNX = OnnxConfig()
Student = Callable[..., Any]


def some_images(side: int, number: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (number, 3, side, side), dtype=np.uint8))


def write_onnx(path: Path, shape: list[Any], num_outputs: int, last: str = "") -> str:
    """A network that gives the mean of each colour, and zeros; `last` is one more operator."""
    colour, *space = (1, 2, 3) if shape[1] == 3 else (3, 1, 2)
    zeros = np.zeros((3, num_outputs), np.float32)
    zeros[:3, :3] = np.eye(3)[:, : min(3, num_outputs)]
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "kernel"], ["y" if not last else "z"]),
        *([helper.make_node(last, ["z"], ["y"])] if last else []),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], space),
        helper.make_tensor("kernel", TensorProto.FLOAT, zeros.shape, zeros.ravel().tolist()),
    ]
    assert shape[colour] == 3
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(path))
    return str(path)


def with_imagenet_names(student: Any) -> Any:
    """The same task for three classes of ImageNet, not in its order."""
    names = [IMAGENET_CLASS_NAMES[i] for i in (281, 3, 999)]
    return type(student)(student.config, dict(student.metadata) | {"class_names": names})


def test_table_is_whole() -> None:
    assert teachers._OPEN.keys() == TEACHERS.keys()
    assert parse_teacher("facenet:weights.pt") == ("facenet", "weights.pt")
    assert parse_teacher("net.onnx") == ("onnx", "net.onnx")
    for wrong in ("timm", "attributes:resnet", "facenett", "no/such/folder"):
        with pytest.raises(ValueError, match="--teacher: "):
            parse_teacher(wrong)


def test_public_facenet_weights_load_with_their_classifier(tmp_path: Path, student: Student) -> None:
    network = InceptionResnetV1(num_classes=8631)
    torch.save(network.state_dict(), tmp_path / "vggface2.pt")
    teacher = open_teacher(f"facenet:{tmp_path / 'vggface2.pt'}", student("embedding"), ONNX)
    assert teacher.input_size == 160
    with torch.no_grad():
        embeddings = teacher.model(some_images(160)).embeddings
        torch.testing.assert_close(embeddings, network.eval()(some_images(160)))
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training

    state = network.state_dict()
    del state["last_bn.bias"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"not FaceNet's weights: last_bn.bias is nothing there, \(512,\) here"):
        load_facenet(str(tmp_path / "other.pt"))


def test_timm_teacher_is_timms_own_network(tmp_path: Path, student: Student) -> None:
    """`mobilenetv1_100` has a mean and a deviation of its own, not ImageNet's."""
    theirs = timm.create_model("mobilenetv1_100").eval()
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    task = with_imagenet_names(student("classification"))
    teacher = open_teacher(f"timm:mobilenetv1_100={tmp_path / 'weights.safetensors'}", task, ONNX)
    images = some_images(teacher.input_size)
    with torch.no_grad():
        expected = theirs((images.float() / 255 - 0.5) / 0.5)[:, [281, 3, 999]]
        torch.testing.assert_close(teacher.model(images).logits, expected, atol=1e-5, rtol=1e-4)


def test_torchvision_teacher_is_torchvisions_own(tmp_path: Path, student: Student) -> None:
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    task = with_imagenet_names(student("classification"))
    teacher = open_teacher(f"torchvision:resnet18={tmp_path / 'weights.pth'}", task, ONNX)
    images = some_images(teacher.input_size)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = theirs(normalise(images.float() / 255))[:, [281, 3, 999]]
        torch.testing.assert_close(teacher.model(images).logits, expected, atol=1e-5, rtol=1e-4)

    with pytest.raises(ValueError, match="knows 0 of the 16 classes by name"):
        open_teacher(f"torchvision:resnet18={tmp_path / 'weights.pth'}", student("classification"), ONNX)
    with pytest.raises(ValueError, match="no classifier 'resnet19'"):
        open_teacher("torchvision:resnet19", task, ONNX)
    with pytest.raises(ValueError, match="not the weights of this network"):
        open_teacher(f"torchvision:resnet34={tmp_path / 'weights.pth'}", task, ONNX)


@pytest.mark.parametrize("shape", [["n", 3, 40, 40], [1, 3, 40, 40], [3, 3, 40, 40], ["n", 40, 40, 3]])
def test_onnx_teacher_reads_layout_size_and_batch(shape: list[Any], tmp_path: Path, student: Student) -> None:
    path = write_onnx(tmp_path / "net.onnx", shape, 8)
    config = OnnxConfig(mean=(10, 20, 30), std=(2, 4, 8))
    teacher = open_teacher(path, student("embedding"), config)
    assert teacher.input_size == 40
    images = some_images(40, number=5)
    means = (images.float().mean((2, 3)) - torch.tensor([10.0, 20, 30])) / torch.tensor([2.0, 4, 8])
    expected = nn.functional.normalize(torch.cat([means, torch.zeros(5, 5)], 1))
    torch.testing.assert_close(teacher.model(images).embeddings, expected, atol=1e-5, rtol=1e-4)


def test_onnx_probabilities_teach_as_their_logits_do(tmp_path: Path, student: Student) -> None:
    cases = (("classification", "Softmax", 3, 1), ("attributes", "Sigmoid", None, None))
    for name, last, num_outputs, axis in cases:
        task = with_imagenet_names(student(name)) if name == "classification" else student(name)
        size = num_outputs or len(task.attribute_names)
        logits, values = (
            open_teacher(
                write_onnx(tmp_path / f"{op}.onnx", ["n", 3, 32, 32], size, op), task, OnnxConfig(outputs=kind)
            )
            for op, kind in (("", "logits"), (last, "probabilities"))
        )
        given, taught = logits.model(some_images(32)).logits, values.model(some_images(32)).logits
        same = [answer.sigmoid() if axis is None else answer.softmax(axis) for answer in (given, taught)]
        torch.testing.assert_close(*same, atol=1e-5, rtol=1e-4)

    wrong = open_teacher(str(tmp_path / "Softmax.onnx"), with_imagenet_names(student("classification")), ONNX)
    with pytest.raises(ValueError, match=r"onnx.outputs: the network's sum to 1; expected probabilities"):
        wrong.model(some_images(32))
    path = write_onnx(tmp_path / "logits.onnx", ["n", 3, 32, 32], len(task.attribute_names))
    config = OnnxConfig(outputs="probabilities", mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match=r"onnx.outputs: the network's are no probabilities; expected logits"):
        open_teacher(path, task, config).model(some_images(32))


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        (["n", 3, "h", "w"], OnnxConfig(), "does not say a square's side; give onnx.input_size"),
        (["n", 3, 40, 40], OnnxConfig(input_size=48), "takes no 48 x 48 pixels"),
        (["n", 3, 40, 3], OnnxConfig(), "does not say where the colours are; give onnx.layout"),
    ],
)
def test_onnx_with_other_inputs(
    shape: list[Any], config: OnnxConfig, message: str, tmp_path: Path, student: Student
) -> None:
    path = write_onnx(tmp_path / "net.onnx", shape, 8)
    with pytest.raises(ValueError, match=message):
        open_teacher(path, student("embedding"), config)


def test_onnx_with_two_inputs(tmp_path: Path, student: Student) -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "ab"]
    output = helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "net", inputs, [output])
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(tmp_path / "net.onnx"))
    with pytest.raises(
        ValueError, match=r"expected one input of floats, \(N, 3, S, S\) or \(N, S, S, 3\), got a tensor"
    ):
        open_teacher(str(tmp_path / "net.onnx"), student("embedding"), ONNX)


def test_answers_that_cannot_teach(tmp_path: Path, student: Student) -> None:
    for task, have, want in (("classification", "3 logits", 16), ("attributes", "3 attributes", 10)):
        subject = build_subject(student(task), class_loss="kd", temperature=1)
        with pytest.raises(ValueError, match=f"the teacher has {have}, the student {want}: it cannot teach it"):
            subject.projection(student(task).build_model(), (3,))
    embedding = student("embedding")
    with pytest.raises(ValueError, match="embedding_dim: 128 numbers cannot be taught by the teacher's 64"):
        build_subject(embedding, class_loss="kd", temperature=1).projection(embedding.build_model(), (64,))
    with pytest.raises(ValueError, match="can teach embeddings, classes and attributes only"):
        open_teacher(write_onnx(tmp_path / "net.onnx", [1, 3, 96, 96], 8), student("detection"), ONNX)


def test_at_input_size_frees_the_name(student: Student) -> None:
    task = student("embedding", backbone={"name": "mobilenet_0.25_64"})
    assert at_input_size(task, 80).config.data.input_size == 80
    assert at_input_size(task, 80).config.backbone.name == "mobilenet_0.25"


@pytest.mark.data
def test_mobilefacenet_is_an_embedding_teacher(shared: Path, student: Student) -> None:
    teacher = open_teacher(str(shared / "weights" / "peers" / "mobilefacenet.onnx"), student("embedding"), ONNX)
    assert teacher.input_size == 112
    embeddings = teacher.model(some_images(112, number=3)).embeddings
    assert embeddings.shape == (3, 128)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
