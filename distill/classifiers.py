"""ImageNet classifiers of torchvision and timm as teachers, for classes that ImageNet has by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torchvision.models
from torch import nn

from backbone.formats import read_tensors
from backbone.layers import Conventions, Normalize
from backbone.weights import imagenet_class_names
from distill.teacher import Teacher, TeacherOptions, at_input_size, build_teacher
from distill.wrappers import LogitsWrapper
from tasks.common.task import Task


def open_torchvision(spec: str, student: Task[Any], _: TeacherOptions) -> Teacher:
    """A torchvision classifier; `spec` is NAME or NAME=FILE."""
    name, _separator, file = spec.partition("=")
    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError) as error:
        raise ValueError(f"--teacher: torchvision has no classifier {name!r}") from error
    try:
        network = torchvision.models.get_model(name, weights=None if file else weights)
    except OSError as error:
        raise ValueError(
            f"--teacher: {weights.url}: download failed ({error}); download it yourself and use torchvision:{name}=FILE"
        ) from error
    if file:
        _load_weights(network, Path(file))
    transforms = weights.transforms()
    mean, std = (tuple(255 * value for value in values) for values in (transforms.mean, transforms.std))
    return _build_classifier(f"torchvision {name}", student, network, transforms.crop_size[0], mean, std)


def open_timm(spec: str, student: Task[Any], _: TeacherOptions) -> Teacher:
    """A timm classifier; `spec` is NAME or NAME=FILE."""
    name, _separator, file = spec.partition("=")
    try:
        import timm as library  # an optional dependency
    except ImportError as error:
        raise ValueError(f"--teacher: timm:{name} needs timm: pip install timm") from error
    if not library.is_model(name):
        raise ValueError(f"--teacher: timm has no model {name!r}")
    try:
        network = library.create_model(name, pretrained=not file)
    except Exception as error:  # of the hub's client, of the network, of the file system
        raise ValueError(
            f"--teacher: weights of timm's {name} cannot be downloaded ({type(error).__name__}); use timm:{name}=FILE"
        ) from error
    if file:
        _load_weights(network, Path(file))
    config: Any = network.pretrained_cfg
    mean, std = (tuple(255 * value for value in config[key]) for key in ("mean", "std"))
    return _build_classifier(f"timm {name}", student, network, config["input_size"][1], mean, std)


def class_columns(title: str, student: Any, class_names: Sequence[str] | None = None) -> list[int]:
    """The column of each of the student's classes in the logits of a teacher, by name.

    Args:
        title: of the teacher, for the message.
        student: the student's task.
        class_names: of the teacher; None for ImageNet's.

    Raises:
        ValueError: if the teacher lacks one of them.
    """
    column_of = student.rows_in(imagenet_class_names() if class_names is None else class_names)
    num_classes = len(student.class_names)
    if len(column_of) < num_classes:
        missing = [name for class_id, name in enumerate(student.class_names) if class_id not in column_of]
        raise ValueError(
            f"--teacher: {title} has only {len(column_of)} of the {num_classes} classes by name, and not {missing[0]}; "
            "train a teacher on them and give its run folder"
        )
    return [column_of[class_id] for class_id in range(num_classes)]


def _build_classifier(
    title: str, student: Task[Any], network: nn.Module, input_size: int, mean: Sequence[float], std: Sequence[float]
) -> Teacher:
    normalized = nn.Sequential(Normalize(Conventions(mean=mean, std=std)), network)  # type: ignore[arg-type]
    model = LogitsWrapper(normalized, class_columns(title, student))
    return build_teacher(title, at_input_size(student, input_size), model)


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"--teacher: {path}: not the weights of this network: {reason}") from error
