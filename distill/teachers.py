"""From what the command line calls a teacher to a network; `names.py` has the table of them.

A teacher takes plain pixels, normalises for itself, and has the outputs of the student's task.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional

from backbone.formats import read_tensors
from backbone.layers import Conventions, Normalize
from backbone.names import parse_name
from backbone.published import IMAGENET_CLASS_NAMES
from distill.config import OnnxConfig
from distill.facenet import INPUT_SIZE, WEIGHTS, FaceNetTask, load_facenet
from distill.names import TEACHERS, parse_teacher
from distill.resnet import ResNetTask
from distill.subjects import SURE
from distill.trained import train_first
from tasks.common.deploy.onnx_network import OnnxNetwork
from tasks.common.evaluation.features import network_digest
from tasks.common.model.logits import Logits
from tasks.common.runs.load import open_run
from tasks.common.runtime.device import open_device
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task
from tasks.embedding.model import EmbeddingOutputs


class Teacher(NamedTuple):
    """A network that teaches.

    Attributes:
        title: for people.
        task: at its input size; decodes its outputs.
        model: uint8 RGB (N, 3, S, S) -> the outputs of that task; in evaluation mode, without gradients.
        digest: of its weights and of how it is asked.
    """

    title: str
    task: Task[Any]
    model: nn.Module
    digest: str

    @property
    def input_size(self) -> int:
        """The side of its input in pixels."""
        size: int = self.task.config.data.input_size
        return size


class Options(NamedTuple):
    """What some kinds of teachers need to know.

    Attributes:
        onnx: of an ONNX file.
        world: the processes that train one that must be trained first.
    """

    onnx: OnnxConfig
    world: World


def open_teacher(text: str, student: Task[Any], onnx_config: OnnxConfig, world: World = SINGLE_PROCESS) -> Teacher:
    """The teacher of that name, for a student of that task.

    Raises:
        ValueError: if there is no such teacher, its weights cannot be had, or it is of another task.
    """
    kind, which = parse_teacher(text)
    task_name = TEACHERS[kind].task
    if task_name not in (None, student.name):
        raise ValueError(f"--teacher: {text} teaches {task_name}, but the student is of {student.name}")
    teacher = _OPEN[kind](which, student, Options(onnx_config, world))
    teacher.model.to(open_device(student.config.loop)).eval().requires_grad_(False)
    return teacher


def _facenet(which: str, student: Task[Any], options: Options) -> Teacher:
    """FaceNet with published weights, or where neither they nor data are named, trained on the sample."""
    if not which and student.config.data.root is None:
        task, model, origin = train_first(FaceNetTask, student, "facenet", options.world)
        return _as_teacher(f"FaceNet, {origin}", task, model)
    task = at_input_size(student, INPUT_SIZE)
    which = which or next(iter(WEIGHTS))
    return _as_teacher(f"FaceNet, {which}", task, load_facenet(which))


def _attributes(_: str, student: Task[Any], options: Options) -> Teacher:
    """A large attribute network, trained on the labels at hand."""
    task, model, origin = train_first(ResNetTask, student, "attributes", options.world)
    return _as_teacher(f"ResNet-50, {origin}", task, model)


def _run(which: str, student: Task[Any], _: Options) -> Teacher:
    """The best checkpoint of a run; it is shown the student's data, at its own input size."""
    task, model = open_run(Path(which), type(student), type(student.config))
    for key in ("class_names", "attribute_names", "partitionings"):
        if task.metadata.get(key) != student.metadata.get(key):
            raise ValueError(f"--teacher: {which} has other {key} than the student: it cannot teach it")
    data = dataclasses.replace(student.config.data, input_size=task.config.data.input_size)
    task = type(student)(dataclasses.replace(task.config, data=data), task.metadata)
    return _as_teacher(f"{task.config.backbone.name}, {which}", task, model)


def _onnx(which: str, student: Task[Any], options: Options) -> Teacher:
    """An ONNX file: embeddings of any length, or logits or probabilities of the student's classes or attributes."""
    config = options.onnx
    network = OnnxNetwork(
        Path(which), input_size=config.input_size, layout=config.layout, mean=config.mean, std=config.std
    )
    task = at_input_size(student, network.input_size)
    content = f"{hashlib.sha256(Path(which).read_bytes()).hexdigest()} {config}"
    if student.name == "embedding":
        return _as_teacher(which, task, _Embedder(network), content)
    if student.name not in ("classification", "attributes"):
        raise ValueError(f"--teacher: {which}: an ONNX file can teach embeddings, classes and attributes only")
    columns = None
    if student.name == "classification" and network.num_outputs == len(IMAGENET_CLASS_NAMES):
        columns = _columns(which, student, IMAGENET_CLASS_NAMES)
    of_classes = student.name == "classification"
    scorer = _Scorer(_LogitsOf(network, outputs=config.outputs, of_classes=of_classes), columns)
    return _as_teacher(which, task, scorer, content)


def _torchvision(which: str, student: Task[Any], _: Options) -> Teacher:
    """An ImageNet classifier of torchvision, for classes that it has by name."""
    name, _separator, file = which.partition("=")
    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError) as error:
        raise ValueError(f"--teacher: torchvision has no classifier {name!r}") from error
    try:
        network = torchvision.models.get_model(name, weights=None if file else weights)
    except OSError as error:
        raise ValueError(
            f"--teacher: {weights.url}: download failed ({error}); download it by hand, and give it as "
            f"torchvision:{name}=FILE"
        ) from error
    if file:
        _load_state(network, Path(file))
    transforms = weights.transforms()
    mean, std = (tuple(255 * value for value in values) for values in (transforms.mean, transforms.std))
    return _classifier(f"torchvision {name}", student, network, transforms.crop_size[0], mean, std)


def _timm(which: str, student: Task[Any], _: Options) -> Teacher:
    """An ImageNet classifier of timm, for classes that it has by name."""
    name, _separator, file = which.partition("=")
    try:
        import timm as library  # not among what the suite needs
    except ImportError as error:
        raise ValueError(f"--teacher: timm:{name} needs timm: pip install timm") from error
    if not library.is_model(name):
        raise ValueError(f"--teacher: timm has no model {name!r}")
    try:
        network = library.create_model(name, pretrained=not file)
    except Exception as error:  # of the hub's client, of the network, of the file system
        raise ValueError(
            f"--teacher: weights of timm's {name} cannot be downloaded ({type(error).__name__}); give their file as "
            f"timm:{name}=FILE"
        ) from error
    if file:
        _load_state(network, Path(file))
    config: Any = network.pretrained_cfg
    mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
    return _classifier(f"timm {name}", student, network, config["input_size"][1], mean, std)


def at_input_size(task: Task[Any], input_size: int) -> Task[Any]:
    """The same task, for images of that size."""
    config = task.config
    size = parse_name(config.backbone.name).input_size
    backbone = dataclasses.replace(config.backbone, name=config.backbone.name.removesuffix(f"_{size}"))
    data = dataclasses.replace(config.data, input_size=input_size)
    return type(task)(dataclasses.replace(config, backbone=backbone, data=data), task.metadata)


def _as_teacher(title: str, task: Task[Any], model: nn.Module, content: str = "") -> Teacher:
    digest = network_digest(model, [title, task.config.data.input_size, content]).hexdigest()
    return Teacher(title, task, model, digest)


def _classifier(
    title: str, student: Task[Any], network: nn.Module, input_size: int, mean: Sequence[float], std: Sequence[float]
) -> Teacher:
    model = nn.Sequential(Normalize(Conventions(mean=mean, std=std)), network)  # type: ignore[arg-type]
    scorer = _Scorer(model, _columns(title, student, IMAGENET_CLASS_NAMES))
    return _as_teacher(title, at_input_size(student, input_size), scorer)


def _columns(title: str, student: Any, class_names: Sequence[str]) -> list[int]:
    """Of the student's classes among a teacher's."""
    row_of = student.rows_in(class_names)
    num_classes = len(student.class_names)
    if len(row_of) < num_classes:
        raise ValueError(
            f"--teacher: {title} knows {len(row_of)} of the {num_classes} classes by name: it cannot teach them; train "
            "a teacher on them, and give its run"
        )
    return [row_of[class_id] for class_id in range(num_classes)]


class _Embedder(nn.Module):
    """A network whose output is an embedding, of any length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> EmbeddingOutputs:
        """uint8 RGB (N, 3, S, S) -> embeddings (N, D) of length 1."""
        embeddings = functional.normalize(self.network(images))
        return EmbeddingOutputs(embeddings, embeddings.new_zeros(0, embeddings.shape[1]))


class _Scorer(nn.Module):
    """A network whose output is a logit for each class or attribute, some of which count."""

    def __init__(self, network: nn.Module, columns: Sequence[int] | None = None) -> None:
        """Args: network: gives logits; columns: that count, None for all."""
        super().__init__()
        self.network = network
        self._columns = columns if columns is None else list(columns)

    def forward(self, images: Tensor) -> Logits:
        """uint8 RGB (N, 3, S, S) -> logits."""
        scores = self.network(images)
        return Logits(scores if self._columns is None else scores[:, self._columns])


class _LogitsOf(nn.Module):
    """Logits of a network's outputs, which are such or probabilities."""

    def __init__(self, network: nn.Module, *, outputs: str, of_classes: bool) -> None:
        """Args: network: gives them; outputs: logits or probabilities; of_classes: which sum to 1."""
        super().__init__()
        self.network, self._outputs, self._of_classes = network, outputs, of_classes

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, S, S) -> logits.

        Raises:
            ValueError: if the outputs are not what they are said to be.
        """
        scores: Tensor = self.network(images)
        are_shares = bool(scores.min() >= -SURE and scores.max() <= 1 + SURE)
        sum_to_one = torch.allclose(scores.sum(1), scores.new_ones(len(scores)), atol=1e-3)
        if self._outputs == "logits":
            if self._of_classes and are_shares and sum_to_one:
                raise ValueError("onnx.outputs: the network's sum to 1; expected probabilities")
            return scores
        if not are_shares or (self._of_classes and not sum_to_one):
            raise ValueError("onnx.outputs: the network's are no probabilities; expected logits")
        return scores.clamp(min=SURE).log() if self._of_classes else scores.logit(SURE)


def _load_state(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise ValueError(
            f"--teacher: {path}: not the weights of this network: {str(error).splitlines()[1].strip()}"
        ) from error


_OPEN: dict[str, Callable[[str, Task[Any], Options], Teacher]] = {
    "facenet": _facenet,
    "attributes": _attributes,
    "torchvision": _torchvision,
    "timm": _timm,
    "run": _run,
    "onnx": _onnx,
}
