"""Teachers normalise their own input, have the outputs of the student's task, or fail with a one-line error."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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

from backbone.weights import imagenet_class_names
from distill import teachers
from distill.config import OnnxConfig
from distill.ensemble import TeacherEnsemble
from distill.names import TEACHERS, parse_teacher
from distill.objectives import build_objective
from distill.teacher import at_input_size
from distill.teachers import open_teacher
from tasks.common.settings import replace_settings
from tasks.embedding.inception_resnet import InceptionResnetV1
from tests.tasks.common.test_pretrained import save_run

ONNX = OnnxConfig()
Student = Callable[..., Any]


def random_images(side: int, num_images: int = 2) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (num_images, 3, side, side), dtype=np.uint8))


def write_onnx(path: Path, shape: list[Any], num_outputs: int, last: str = "") -> str:
    """A network that outputs the mean of each colour, padded with zeros; `last` is one more operator."""
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
    """The same task for three ImageNet classes, in another order."""
    names = [imagenet_class_names()[i] for i in (281, 3, 999)]
    return type(student)(student.config, dict(student.metadata) | {"class_names": names})


def test_every_kind_of_teacher_can_be_opened() -> None:
    assert teachers._OPENERS.keys() == TEACHERS.keys()
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
        embeddings = teacher.model(random_images(160)).embeddings
        torch.testing.assert_close(embeddings, network.eval()(random_images(160)))
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training

    state = network.state_dict()
    del state["last_bn.bias"]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"not FaceNet's weights: last_bn.bias: expected \(512,\), got no such tensor"):
        open_teacher(f"facenet:{tmp_path / 'other.pt'}", student("embedding"), ONNX)


def test_timm_teacher_equals_timms_network(tmp_path: Path, student: Student) -> None:
    """`mobilenetv1_100` has another mean and deviation than ImageNet's."""
    reference = timm.create_model("mobilenetv1_100").eval()
    safetensors.torch.save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    task = with_imagenet_names(student("classification"))
    teacher = open_teacher(f"timm:mobilenetv1_100={tmp_path / 'weights.safetensors'}", task, ONNX)
    images = random_images(teacher.input_size)
    with torch.no_grad():
        expected = reference((images.float() / 255 - 0.5) / 0.5)[:, [281, 3, 999]]
        torch.testing.assert_close(teacher.model(images).logits, expected, atol=1e-5, rtol=1e-4)


def test_torchvision_teacher_equals_torchvisions_network(tmp_path: Path, student: Student) -> None:
    reference = torchvision.models.resnet18().eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    task = with_imagenet_names(student("classification"))
    teacher = open_teacher(f"torchvision:resnet18={tmp_path / 'weights.pth'}", task, ONNX)
    images = random_images(teacher.input_size)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = reference(normalise(images.float() / 255))[:, [281, 3, 999]]
        torch.testing.assert_close(teacher.model(images).logits, expected, atol=1e-5, rtol=1e-4)

    with pytest.raises(ValueError, match="has only 0 of the 16 classes by name"):
        open_teacher(f"torchvision:resnet18={tmp_path / 'weights.pth'}", student("classification"), ONNX)
    with pytest.raises(ValueError, match="no classifier 'resnet19'"):
        open_teacher("torchvision:resnet19", task, ONNX)
    with pytest.raises(ValueError, match="not the weights of this network"):
        open_teacher(f"torchvision:resnet34={tmp_path / 'weights.pth'}", task, ONNX)


def test_classes_are_found_in_a_run_by_name(tmp_path: Path, student: Student) -> None:
    task = student("classification")
    names = [*reversed(task.class_names), "another", "one more"]
    network = save_run(tmp_path, type(task)(task.config, {"data": "folder", "class_names": names}))
    teacher = open_teacher(str(tmp_path), task, ONNX)
    images = random_images(teacher.input_size)
    with torch.no_grad():
        expected = network.eval()(images).logits[:, [names.index(name) for name in task.class_names]]
        torch.testing.assert_close(teacher.model(images).logits, expected)
    assert teacher.task.metadata == task.metadata
    objective = build_objective(task, class_loss="kd", temperature=1)
    assert len(TeacherEnsemble([teacher], objective, loop=task.config.loop, hint_stride=16).hint_shape) == 3

    more = type(task)(task.config, {"data": "folder", "class_names": ["new", *task.class_names]})
    with pytest.raises(
        ValueError, match=rf"--teacher: {tmp_path} has only 16 of the 17 classes by name, and not new; train a teacher"
    ):
        open_teacher(str(tmp_path), more, ONNX)


@pytest.mark.parametrize("shape", [["n", 3, 40, 40], [1, 3, 40, 40], [3, 3, 40, 40], ["n", 40, 40, 3]])
def test_onnx_teacher_reads_layout_size_and_batch(shape: list[Any], tmp_path: Path, student: Student) -> None:
    path = write_onnx(tmp_path / "net.onnx", shape, 8)
    config = OnnxConfig(mean=(10, 20, 30), std=(2, 4, 8))
    teacher = open_teacher(path, student("embedding"), config)
    assert teacher.input_size == 40
    images = random_images(40, num_images=5)
    means = (images.float().mean((2, 3)) - torch.tensor([10.0, 20, 30])) / torch.tensor([2.0, 4, 8])
    expected = nn.functional.normalize(torch.cat([means, torch.zeros(5, 5)], 1))
    torch.testing.assert_close(teacher.model(images).embeddings, expected, atol=1e-5, rtol=1e-4)


def test_onnx_probabilities_are_equal_to_their_logits(tmp_path: Path, student: Student) -> None:
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
        expected, converted = logits.model(random_images(32)).logits, values.model(random_images(32)).logits
        both = [out.sigmoid() if axis is None else out.softmax(axis) for out in (expected, converted)]
        torch.testing.assert_close(*both, atol=1e-5, rtol=1e-4)

    wrong = open_teacher(str(tmp_path / "Softmax.onnx"), with_imagenet_names(student("classification")), ONNX)
    with pytest.raises(
        ValueError, match=r"onnx.outputs: got logits, but the network's outputs sum to 1; expected probabilities"
    ):
        wrong.model(random_images(32))
    path = write_onnx(tmp_path / "logits.onnx", ["n", 3, 32, 32], len(task.attribute_names))
    config = OnnxConfig(outputs="probabilities", mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ValueError, match=r"onnx.outputs: the network's outputs are not probabilities; expected logits"):
        open_teacher(path, task, config).model(random_images(32))


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        (["n", 3, "h", "w"], OnnxConfig(), "has no fixed square size; set its input size"),
        (["n", 3, 40, 40], OnnxConfig(input_size=48), "not 48 x 48 pixels"),
        (["n", 3, 40, 3], OnnxConfig(), "is ambiguous; set its layout"),
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


def test_outputs_that_do_not_fit_the_student(tmp_path: Path, student: Student) -> None:
    for task, found, expected in (("classification", "3 logits", 16), ("attributes", "3 attributes", 10)):
        objective = build_objective(student(task), class_loss="kd", temperature=1)
        with pytest.raises(
            ValueError, match=f"the teacher has {found}, the student {expected}; expected the same number"
        ):
            objective.projection(student(task).build_model(), (3,))
    embedding = student("embedding")
    with pytest.raises(ValueError, match="embedding_dim: 128 is more than the teacher's 64; expected 64 or fewer"):
        build_objective(embedding, class_loss="kd", temperature=1).projection(embedding.build_model(), (64,))
    ssd = student("detection")
    for model in ("faster_rcnn", "faster_rcnn_fpn"):
        teacher = type(ssd)(replace_settings(ssd.config, {"model": model}), ssd.metadata)
        with pytest.raises(ValueError, match=f"model: expected ssd, but the teacher is {model}, whose regions"):
            build_objective(ssd, class_loss="kd", temperature=1).teacher_outputs(teacher, outputs=None)
    other = SimpleNamespace(name="ranking", metadata={})
    with pytest.raises(ValueError, match="ranking cannot be distilled; expected one of attributes, classif"):
        build_objective(other, class_loss="kd", temperature=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="can teach embedding, classification and attributes only"):
        open_teacher(write_onnx(tmp_path / "net.onnx", [1, 3, 96, 96], 8), student("detection"), ONNX)


def test_at_input_size_removes_the_size_from_the_backbones_name(student: Student) -> None:
    task = student("embedding", backbone={"name": "mobilenet_0.25_64"})
    assert at_input_size(task, 80).config.data.input_size == 80
    assert at_input_size(task, 80).config.backbone.name == "mobilenet_0.25"


@pytest.mark.data
def test_mobilefacenet_is_an_embedding_teacher(shared: Path, student: Student) -> None:
    teacher = open_teacher(str(shared / "weights" / "peers" / "mobilefacenet.onnx"), student("embedding"), ONNX)
    assert teacher.input_size == 112
    embeddings = teacher.model(random_images(112, num_images=3)).embeddings
    assert embeddings.shape == (3, 128)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
