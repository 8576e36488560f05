"""Structural pruning: the least important channels of a MobileNet v1 are removed from a trained network.

torch-pruning finds the kernels that belong to a channel, in the head, too, and ranks the channels of all layers.

Source: Molchanov et al. 2019 (arXiv:1906.10771), section 3; Fang et al. 2023 (arXiv:2301.12900) for the library.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from backbone.base import convolutions
from backbone.mobilenet import MobileNet
from datasets.batch import map_tensors
from datasets.loader import TrainingBatches, build_loader
from datasets.progress import Progress
from tasks.common.evaluation.unreadable import UnreadableImages
from tasks.common.runs.pretrained import without_pretrained
from tasks.common.runtime.device import device_of
from tasks.common.settings import replace_settings
from tasks.common.task import Task
from tasks.common.training.freeze import set_trainable
from tasks.common.training.step import training_inputs

Importance = Callable[[Any], Tensor]  # channels of torch-pruning that are removed together -> importance of each
NUM_IMAGES = 512  # training images that the gradients are from
NUM_STEPS = 500  # in which all channels would be removed
MAX_PRUNED_FRACTION = 0.9  # of a layer's channels
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

    if not isinstance(getattr(network, "backbone", None), MobileNet):
        raise ValueError(f"{task.config.backbone.name}: cannot be pruned; expected a network on MobileNet v1")
    model: Any = copy.deepcopy(network)
    _measure_gradients(task, model)
    importance = in_blocks(GroupTaylorImportance(normalizer=None, group_reduction="sum"))
    prune_channels(model, task.config.data.input_size, fraction, importance)
    channels = {"backbone.channels": tuple(model.backbone.layer_channels)}
    pruned = task.with_settings(replace_settings(without_pretrained(task.config), channels))
    smaller = pruned.build_model()
    try:
        smaller.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"{type(network).__name__}: cannot be pruned, since the width of its own layers follows the backbone's: "
            f"{str(error).splitlines()[1].strip()}"
        ) from error
    return pruned, smaller.to(device_of(network)).eval().requires_grad_(False)


def prune_channels(model: Any, input_size: int, fraction: float, importance: Importance) -> None:
    """Remove the least important channels of the backbone, in place, until no more than the mult-adds are left.

    The channels of all layers are ranked together, and again after each of `NUM_STEPS` steps. Those of the last layer
    stay if they are the network's outputs.

    Args:
        model: a network with a MobileNet v1 as its `backbone`; is left in training mode.
        input_size: in pixels.
        fraction: of the backbone's mult-adds, in (0, 1].
        importance: of torch-pruning.

    Raises:
        ValueError: if it cannot be made that small.
    """
    import torch_pruning

    images = torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8, device=device_of(model))
    count_mult_adds = _counter(model.backbone, images)
    readers = {torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels}
    _make_trainable(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parameters that are in no layer
        pruner = torch_pruning.BasePruner(
            model,
            images,
            importance,
            global_pruning=True,
            pruning_ratio=1.0,
            max_pruning_ratio=MAX_PRUNED_FRACTION,
            iterative_steps=NUM_STEPS,
            ignored_layers=_other_layers(model),
            output_transform=_differentiable,
        )
        last = convolutions(model.backbone)[-1]
        group = pruner.DG.get_pruning_group(last, torch_pruning.prune_conv_out_channels, [0])
        if not readers.intersection(dependency.handler for dependency, _ in group):
            pruner.ignored_layers.append(last)
        whole = count_mult_adds()
        while (left := count_mult_adds()) > fraction * whole:
            if pruner.current_step == NUM_STEPS:
                raise ValueError(f"--mult_adds: expected {left / whole:.3f} or more, got {fraction:g}")
            pruner.step()


def in_blocks(importance: Importance) -> Importance:
    """An importance by which channels are removed `BLOCK` at a time, so that multiples of it are left.

    Each channel gets the mean of those beside it in the order of importance, counted from the most important one.
    """

    def of_blocks(group: Any) -> Tensor:
        single = importance(group)
        order = single.argsort(descending=True)
        means = torch.cat([block.mean().expand_as(block) for block in torch.split(single[order], BLOCK)])
        return means[order.argsort()]

    return of_blocks


def _measure_gradients(task: Task[Any], model: nn.Module) -> None:
    """Set the gradient of each parameter to the root of its mean square over batches of training images.

    Raises:
        ValueError: if too many of the images are unreadable.
    """
    config, device = task.config, device_of(model)
    torch.manual_seed(config.seed)
    training_set = task.training_set()
    unreadable = UnreadableImages(len(training_set), config.loop.max_unreadable_fraction)
    batches = TrainingBatches(len(training_set), config.optim.batch_size, config.seed, order=task.order())
    loader = build_loader(training_set, batches, num_workers=config.loop.num_workers, collate=task.collate())
    num_batches = min(len(batches), -(-NUM_IMAGES // batches.batch_size))
    squares = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
    _make_trainable(model)
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


def _make_trainable(model: nn.Module) -> None:
    """Set training mode, in which all parts of the network are used, with fixed batch normalisation."""
    set_trainable(model, model.parameters(), [], freeze_bn=True)


def _counter(backbone: Any, images: Tensor) -> Callable[[], int]:
    """A function that counts the mult-adds of the convolutions, as their kernels are when it is called."""
    num_positions: dict[nn.Conv2d, int] = {}

    def count(convolution: nn.Conv2d, _: Any, output: Tensor) -> None:
        num_positions[convolution] = output.shape[2] * output.shape[3]

    with ExitStack() as hooks, torch.no_grad():
        for convolution in convolutions(backbone):
            hooks.enter_context(convolution.register_forward_hook(count))
        backbone.features(images)
    return lambda: sum(convolution.weight.numel() * number for convolution, number in num_positions.items())


def _other_layers(model: Any) -> list[nn.Module]:
    """The layers outside the backbone that make channels of their own; depthwise ones follow those before them."""
    inside = set(model.backbone.modules())
    return [
        layer
        for layer in model.modules()
        if layer not in inside
        and (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1))
    ]


def _differentiable(outputs: Any) -> list[Tensor]:
    """The tensors among a network's outputs that depend on its parameters; others are constants, such as anchors."""
    tensors: list[Tensor] = []
    map_tensors(tensors.append, outputs)  # type: ignore[arg-type]  # what it returns is not used
    return [tensor for tensor in tensors if tensor.requires_grad]
