"""The table from a `--teacher` on the command line to a `Teacher`; `distill/names.py` lists the names."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from backbone.weights import NUM_IMAGENET_CLASSES
from distill.classifiers import class_columns, open_timm, open_torchvision
from distill.config import OnnxConfig
from distill.names import TEACHERS, parse_teacher
from distill.resnet import ResNetTask
from distill.teacher import Teacher, TeacherOptions, at_input_size, build_teacher
from distill.training import train_teacher
from distill.wrappers import LogitsWrapper, ProbabilitiesToLogits
from tasks.common.deploy.onnx_network import OnnxNetwork
from tasks.common.published import PUBLISHED_MODELS
from tasks.common.runs.load import load_model, open_run
from tasks.common.runtime.device import setup_device
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.settings import replace_settings
from tasks.common.task import Task
from tasks.embedding.facenet import INPUT_SIZE
from tasks.embedding.inception_resnet import InceptionResnetV1
from tasks.embedding.model import EmbeddingWrapper
from tasks.embedding.task import EmbeddingTask


def open_teacher(text: str, student: Task[Any], onnx_config: OnnxConfig, world: World = SINGLE_PROCESS) -> Teacher:
    """The teacher with that name, for a student of that task.

    Raises:
        ValueError: if there is no such teacher, its weights cannot be loaded, or its task is another one.
    """
    kind, spec = parse_teacher(text)
    task_name = TEACHERS[kind].task
    if task_name not in (None, student.name):
        raise ValueError(f"--teacher: {text} is a teacher for {task_name}, but the student's task is {student.name}")
    teacher = _OPENERS[kind](spec, student, TeacherOptions(onnx_config, world))
    teacher.model.to(setup_device(student.config.loop)).eval().requires_grad_(False)
    return teacher


def _open_facenet(spec: str, student: Task[Any], options: TeacherOptions) -> Teacher:
    """FaceNet with published weights; trained on the sample where neither weights nor data are given."""
    if not spec and student.config.data.root is None:
        task, model, origin = train_teacher(EmbeddingTask, student, "facenet", options.world)
        return build_teacher(f"FaceNet, {origin}", task, model)
    name = f"facenet_{(spec or 'vggface2').replace('-', '_')}"
    is_published = any(row.name == name for row in PUBLISHED_MODELS)
    config = replace_settings(
        student.config, {"pretrained": name if is_published else spec, "backbone.conventions": None}
    )
    _, model = load_model(EmbeddingTask, config, None)
    if not isinstance(getattr(model, "backbone", None), InceptionResnetV1):
        raise ValueError(f"--teacher: {spec}: not FaceNet's weights")
    return build_teacher(f"FaceNet, {spec or name}", at_input_size(student, INPUT_SIZE), model)


def _open_attributes(_: str, student: Task[Any], options: TeacherOptions) -> Teacher:
    """ResNet-50, trained on the student's labelled data."""
    task, model, origin = train_teacher(ResNetTask, student, "attributes", options.world)
    return build_teacher(f"ResNet-50, {origin}", task, model)


def _open_run(spec: str, student: Task[Any], _: TeacherOptions) -> Teacher:
    """The best checkpoint of a run, at its own input size, on the student's data.

    A classifier may have more classes than the student, which are found by name.
    """
    return _of_model(spec, student, *open_run(Path(spec), type(student), type(student.config)))


def _open_published(spec: str, student: Task[Any], _: TeacherOptions) -> Teacher:
    """A published model of the student's task, likewise."""
    config = replace_settings(student.config, {"pretrained": spec, "backbone.conventions": None})
    return _of_model(spec, student, *load_model(type(student), config, None))


def _of_model(spec: str, student: Task[Any], task: Task[Any], model: nn.Module) -> Teacher:
    """A model of the student's task as its teacher.

    Raises:
        ValueError: if it has other outputs than the student.
    """
    metadata: Mapping[str, Any] = task.metadata
    for key in ("class_names", "attribute_names", "partitionings"):
        if metadata.get(key) != student.metadata.get(key):
            if student.name != "classification":
                raise ValueError(f"--teacher: {spec}: its {key} differ from the student's; expected the same")
            model, metadata = LogitsWrapper(model, class_columns(spec, student, metadata[key])), student.metadata
    data = dataclasses.replace(student.config.data, input_size=task.config.data.input_size)
    task = type(student)(dataclasses.replace(task.config, data=data), metadata)
    return build_teacher(f"{task.config.backbone.name}, {spec}", task, model)


def _open_onnx(spec: str, student: Task[Any], options: TeacherOptions) -> Teacher:
    """An ONNX file: embeddings of any dimension, or logits or probabilities of the student's classes or attributes."""
    config = options.onnx
    network = OnnxNetwork(
        Path(spec), input_size=config.input_size, layout=config.layout, mean=config.mean, std=config.std
    )
    task = at_input_size(student, network.input_size)
    content = f"{hashlib.sha256(Path(spec).read_bytes()).hexdigest()} {config}"
    if student.name == "embedding":
        return build_teacher(spec, task, EmbeddingWrapper(network), content)
    if student.name not in ("classification", "attributes"):
        raise ValueError(f"--teacher: {spec}: an ONNX file can teach embedding, classification and attributes only")
    is_classifier = student.name == "classification"
    has_imagenet_classes = is_classifier and network.num_outputs == NUM_IMAGENET_CLASSES
    columns = class_columns(spec, student) if has_imagenet_classes else None
    logits = ProbabilitiesToLogits(network, outputs=config.outputs, uses_softmax=is_classifier)
    return build_teacher(spec, task, LogitsWrapper(logits, columns), content)


_OPENERS: dict[str, Callable[[str, Task[Any], TeacherOptions], Teacher]] = {
    "facenet": _open_facenet,
    "attributes": _open_attributes,
    "torchvision": open_torchvision,
    "timm": open_timm,
    "run": _open_run,
    "published": _open_published,
    "onnx": _open_onnx,
}
