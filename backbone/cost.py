"""Mult-adds and parameters of any `nn.Module`, counted as in the paper."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass.

    Attributes:
        mult_adds: multiply-accumulates of convolutions, linear layers and matrix products (half the FLOPs).
        num_params: trainable parameters, including BN scale and shift but not BN statistics.
        by_layer_type: layer type (Table 2's names) -> (mult_adds, num_params).
    """

    mult_adds: int
    num_params: int
    by_layer_type: dict[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """The cost as a JSON-serialisable dict with the keys `mult_adds`, `num_params`, `by_layer_type`."""
        by_layer_type = {
            layer_type: {"mult_adds": mult_adds, "num_params": num_params}
            for layer_type, (mult_adds, num_params) in self.by_layer_type.items()
        }
        return {"mult_adds": self.mult_adds, "num_params": self.num_params, "by_layer_type": by_layer_type}


def count_cost(model: nn.Module, images: Tensor) -> Cost:
    """Count one forward pass in evaluation mode; the `meta` device works too, and computes nothing.

    Args:
        model: any module called with `images` alone.
        images: an input of the desired shape, usually batch size 1, on the model's device.

    Source: Howard et al. 2017, section 3.1 (equation 5) and Table 2.
    """
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    model.train(was_training)

    mult_adds: Counter[str] = Counter()
    num_params: Counter[str] = Counter()
    flops_of = counter.get_flop_counts()
    for name, layer in model.named_modules():
        own_params = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        num_params[_layer_type(layer)] += own_params
        if isinstance(layer, nn.Conv2d | nn.Linear):
            full_name = f"{type(model).__name__}.{name}" if name else type(model).__name__
            mult_adds[_layer_type(layer)] += sum(flops_of.get(full_name, {}).values()) // 2
    total = counter.get_total_flops() // 2
    mult_adds["other"] += total - mult_adds.total()
    types = sorted((num_params | mult_adds).keys(), key=lambda key: -mult_adds[key])
    by_layer_type = {key: (mult_adds[key], num_params[key]) for key in types if mult_adds[key] or num_params[key]}
    return Cost(total, sum(parameter.numel() for parameter in model.parameters()), by_layer_type)


def format_cost(cost: Cost, title: str) -> str:
    """A table by layer type with percentages, as the paper's Table 2."""
    lines = [title, f"{'layer type':<18}{'mult-adds (M)':>16}{'%':>9}{'parameters':>14}{'%':>9}"]
    rows = [*cost.by_layer_type.items(), ("total", (cost.mult_adds, cost.num_params))]
    for layer_type, (mult_adds, num_params) in rows:
        lines.append(
            f"{layer_type:<18}{mult_adds / 1e6:>16,.2f}{100 * mult_adds / max(cost.mult_adds, 1):>9.2f}"
            f"{num_params:>14,}{100 * num_params / max(cost.num_params, 1):>9.2f}"
        )
    return "\n".join(lines)


def _layer_type(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return "fully connected"
    if isinstance(layer, nn.Conv2d):
        depthwise = "dw " if layer.groups == layer.in_channels > 1 else ""
        return f"conv {depthwise}{layer.kernel_size[0]}x{layer.kernel_size[1]}"
    if isinstance(layer, nn.BatchNorm2d):
        return "batch norm"
    return "other"
