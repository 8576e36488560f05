"""Structural pruning: the least important channels of a MobileNet v1 are removed from a trained network.

Each layer keeps about the same fraction of its channels, as with a smaller width multiplier. torch-pruning finds the
kernels that belong to a channel, in the head, too, and says how important it is.

Source: Molchanov et al. 2019 (arXiv:1906.10771), section 3; Fang et al. 2023 (arXiv:2301.12900) for the library.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from backbone.base import convolutions
from backbone.mobilenet import MobileNet
from datasets.batch import map_tensors
from datasets.loader import TrainingBatches, build_loader
from datasets.progress import Progress
from tasks.common.deploy.inference import inference_cost
from tasks.common.evaluation.unreadable import LeftOutInTraining, UnreadableImages
from tasks.common.runs.pretrained import without_pretrained
from tasks.common.runtime.device import device_of
from tasks.common.settings import replace_settings
from tasks.common.task import Task
from tasks.common.training.freeze import set_trainable
from tasks.common.training.step import training_inputs

Importance = Callable[[Any], Tensor]  # channels of torch-pruning that are removed together -> importance of each
NUM_IMAGES = 512  # training images that the gradients are from
BLOCK = 8  # channels that ONNX Runtime computes at once; other numbers of them take more time, not less


def prune_network(task: Task[Any], network: nn.Module, fraction: float) -> tuple[Task[Any], nn.Module]:
    """A smaller network with the weights of the most important channels, and its task.

        importance of a channel = sum over its weights of |w| * sqrt(mean g^2)

    with g the gradient of the loss of a batch of training images.

    Args:
        task: of the network, with training images.
        network: trained; stays as it is.
        fraction: of the backbone's mult-adds, in (0, 1]; no more than these are left.

    Returns:
        The task with the channels of each layer in its settings, and the network, in evaluation mode.

    Raises:
        ValueError: if its backbone is not a MobileNet v1, or cannot be made that small, or the width of layers in the
            head depends on it.
    """
    from torch_pruning.pruner.importance import GroupTaylorImportance  # of the extra `pruning`

    config = task.config
    if not isinstance(getattr(network, "backbone", None), MobileNet):
        raise ValueError(f"{config.backbone.name}: cannot be pruned; expected a network on MobileNet v1")
    side = config.data.input_size

    def task_with(channels: Sequence[int]) -> Task[Any]:
        return task.with_settings(replace_settings(without_pretrained(config), {"backbone.channels": tuple(channels)}))

    def mult_adds(channels: Sequence[int]) -> int:
        smaller: Any = task_with(channels).build_model()  # which may dilate its backbone
        return inference_cost(smaller.backbone, side).mult_adds

    model: Any = copy.deepcopy(network)
    set_trainable(model, model.parameters(), [], freeze_bn=True)  # training mode: all parts of the network are used
    _measure_gradients(task, model)
    importance = GroupTaylorImportance(normalizer=None, group_reduction="sum")
    prune_channels(model, side, fraction, importance, mult_adds)
    pruned = task_with(model.backbone.layer_channels)
    smaller = pruned.build_model()
    try:
        smaller.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"{type(network).__name__}: cannot be pruned, since the width of its own layers follows the backbone's: "
            f"{str(error).splitlines()[1].strip()}"
        ) from error
    return pruned, smaller.to(device_of(network)).eval().requires_grad_(False)


def prune_channels(
    model: Any, input_size: int, fraction: float, importance: Importance, mult_adds: Callable[[Sequence[int]], int]
) -> None:
    """Remove the least important channels of each layer, in place, until at most a fraction of the mult-adds is left.

    Those of the last layer stay if they are the network's outputs.

    Args:
        model: a network with a MobileNet v1 as its `backbone`, in training mode.
        input_size: in pixels.
        fraction: of the mult-adds, in (0, 1].
        importance: of torch-pruning.
        mult_adds: of the backbone with so many channels in each layer.

    Raises:
        ValueError: if it cannot be made that small.
    """
    from torch_pruning import DependencyGraph, prune_conv_in_channels, prune_conv_out_channels, prune_linear_in_channels

    images = torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8, device=device_of(model))
    graph = DependencyGraph().build_dependency(model, images, output_transform=_differentiable, verbose=False)

    def channels_of(layer: nn.Module, rows: Sequence[int]) -> Any:
        return graph.get_pruning_group(convolutions(layer)[-1], prune_conv_out_channels, list(rows))

    readers = {prune_conv_in_channels, prune_linear_in_channels}
    layers, channels = list(model.backbone.layers), model.backbone.layer_channels
    is_read = any(dependency.handler in readers for dependency, _ in channels_of(layers[-1], [0]))
    narrower = narrower_channels(channels, fraction, mult_adds, keep_last=not is_read)
    for layer, before, after in zip(layers, channels, narrower, strict=True):
        if after < before:
            order = importance(channels_of(layer, range(before))).argsort()
            channels_of(layer, order[: before - after].tolist()).prune()


def narrower_channels(
    channels: Sequence[int], fraction: float, mult_adds: Callable[[Sequence[int]], int], *, keep_last: bool = False
) -> list[int]:
    """The channels of each layer of the widest network with at most a fraction of the mult-adds.

        min(c, 8 * ceil(k * c / 8))    with k in (0, 1] the same for all layers

    Args:
        channels: c, of each layer.
        fraction: in (0, 1].
        mult_adds: of a network with so many channels.
        keep_last: whether the last layer stays as it is.

    Raises:
        ValueError: if the narrowest one has more.
    """

    def at(part: Fraction) -> list[int]:
        narrower = [min(count, BLOCK * math.ceil(part * count / BLOCK)) for count in channels]
        return [*narrower[:-1], channels[-1]] if keep_last else narrower

    # Every k at which a layer becomes a block wider.
    parts = {Fraction(BLOCK * blocks, count) for count in channels for blocks in range(1, count // BLOCK + 1)}
    steps, whole = sorted(parts | {Fraction(1)}), mult_adds(channels)
    num_possible = bisect_right(steps, fraction * whole, key=lambda part: mult_adds(at(part)))
    if num_possible == 0:
        least = math.ceil(1000 * mult_adds(at(steps[0])) / whole) / 1000
        raise ValueError(f"--mult_adds: expected {least:g} or more, got {fraction:g}")
    return at(steps[num_possible - 1])


def _measure_gradients(task: Task[Any], model: nn.Module) -> None:
    """Set the gradient of each parameter to the root of its mean square over batches of training images.

    Raises:
        ValueError: if too many of the images are unreadable.
    """
    config, device = task.config, device_of(model)
    torch.manual_seed(config.seed)
    training_set = task.training_set()
    unreadable = UnreadableImages(len(training_set), config.loop.max_unreadable_fraction, LeftOutInTraining)
    batches = TrainingBatches(len(training_set), config.optim.batch_size, config.seed, order=task.order())
    loader = build_loader(training_set, batches, num_workers=config.loop.num_workers, collate=task.collate())
    num_batches = min(len(batches), -(-NUM_IMAGES // batches.batch_size))
    squares = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
    with Progress("gradients of training images", num_batches) as progress:
        for batch in (batch.to(device) for batch in islice(loader, num_batches)):
            unreadable.add(batch.unreadable)
            if unreadable.problem is not None:
                raise ValueError(unreadable.problem)
            model.zero_grad()
            loss = task.loss(model(*training_inputs(model, batch)), batch.targets)["total"]
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter, square in squares.items():
                if parameter.grad is not None:
                    square += parameter.grad.square() / num_batches
            progress.advance()
    for parameter, square in squares.items():
        parameter.grad = square.sqrt()


def _differentiable(outputs: Any) -> list[Tensor]:
    """The tensors among a network's outputs that depend on its parameters; others are constants, such as anchors."""
    tensors: list[Tensor] = []
    map_tensors(tensors.append, outputs)  # type: ignore[arg-type]  # what it returns is not used
    return [tensor for tensor in tensors if tensor.requires_grad]
