"""`cost`: mult-adds and parameters."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from backbone.cost import count_cost, format_cost
from tasks.common.cli.parser import Arguments
from tasks.common.deploy.onnx_network import is_onnx
from tasks.common.runs.load import load_model
from tasks.common.runtime.device import device_of
from tasks.common.task import Task


def cost(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Print mult-adds and parameters of the configured model, or of that in `pretrained`."""
    task, model = _model(task_class, arguments)
    config = task.config
    input_size = config.data.input_size
    # Not on the meta device, since control flow may depend on values.
    counted = count_cost(model, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8, device=device_of(model)))
    if arguments.options["json"]:
        print(json.dumps(counted.to_dict(), indent=2))
    else:
        print(format_cost(counted, f"{type(model).__name__} on {config.backbone.name} at {input_size} px"))
    return 0


def _model(task_class: type[Task[Any]], arguments: Arguments) -> tuple[Task[Any], nn.Module]:
    """The model in `pretrained`, if there is one, or a random one.

    Raises:
        ValueError: if the model is given and a number of classes, too, or it is an ONNX file.
    """
    config = arguments.config
    if config.pretrained == "none":
        task = task_class.with_num_classes(config, arguments.options["num_classes"])
        return task, task.build_model()
    if "num_classes" in arguments.given:
        raise ValueError("--num_classes: cannot be set with --pretrained, which is a network of its own")
    task, model = load_model(task_class, config, None, arguments.given)
    if is_onnx(model):
        raise ValueError(f"{config.pretrained}: is an ONNX file, whose mult-adds cannot be counted")
    return task, model
