"""`cost`: mult-adds and parameters."""

from __future__ import annotations

import json
from typing import Any

import torch

from backbone.cost import count_cost, format_cost
from tasks.common.cli.parser import Arguments
from tasks.common.runs.pretrained import without_pretrained
from tasks.common.task import Task


def cost(task_class: type[Task[Any]], arguments: Arguments) -> int:
    """Print mult-adds and parameters of the configured model."""
    config = without_pretrained(arguments.config)
    task = task_class.with_num_classes(config, arguments.options["num_classes"])
    input_size = config.data.input_size
    model = task.build_model()
    # Not on the meta device, since control flow may depend on values.
    counted = count_cost(model, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))
    if arguments.options["json"]:
        print(json.dumps(counted.to_dict(), indent=2))
    else:
        print(format_cost(counted, f"{type(model).__name__} on {config.backbone.name} at {input_size} px"))
    return 0
