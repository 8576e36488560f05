"""A teacher: a network with the outputs of a task, and its construction."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from torch import nn

from backbone.names import parse_name
from distill.config import OnnxConfig
from tasks.common.evaluation.network_hash import hash_network
from tasks.common.runtime.distributed import World
from tasks.common.task import Task


class Teacher(NamedTuple):
    """A network to distil from. It takes plain pixels and normalises them itself.

    Attributes:
        title: for reports and messages.
        task: the student's task at the teacher's input size; decodes the outputs.
        model: uint8 RGB (N, 3, S, S) -> the outputs of that task; in evaluation mode, without gradients.
        digest: hash of the weights and the input settings, part of the cache key.
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


class TeacherOptions(NamedTuple):
    """Options that some teachers need in addition to their name.

    Attributes:
        onnx: settings of ONNX files.
        world: the processes that train a teacher which has to be trained first.
    """

    onnx: OnnxConfig
    world: World


def build_teacher(title: str, task: Task[Any], model: nn.Module, content: str = "") -> Teacher:
    """A teacher with its digest.

    Args:
        title: see `Teacher`.
        task: see `Teacher`.
        model: see `Teacher`.
        content: added to the digest, for a model whose weights are not torch parameters.
    """
    digest = hash_network(model, [title, task.config.data.input_size, content]).hexdigest()
    return Teacher(title, task, model, digest)


def at_input_size(task: Task[Any], input_size: int) -> Task[Any]:
    """The same task at another input size, which is removed from the backbone's name if it is part of it."""
    config = task.config
    size = parse_name(config.backbone.name).input_size
    backbone = dataclasses.replace(config.backbone, name=config.backbone.name.removesuffix(f"_{size}"))
    data = dataclasses.replace(config.data, input_size=input_size)
    return type(task)(dataclasses.replace(config, backbone=backbone, data=data), task.metadata)
