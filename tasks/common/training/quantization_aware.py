"""Quantisation-aware training: a network is trained to keep its layers' outputs when it computes in 8 bits.

The network in float32 is the teacher, so no labels are needed. Kernels and the layers' inputs are rounded as `quantize`
rounds them, and gradients pass through the rounding unchanged. Batch normalisation keeps its statistics. Folding it
into a kernel scales a channel and its step alike, so that rounding before it is the same.

Source: Jacob et al. 2018 (arXiv:1712.05877), section 3; Bengio et al. 2013 (arXiv:1308.3432) for the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from datasets.progress import Progress
from datasets.types import Image
from tasks.common.deploy.inference import inference_copy
from tasks.common.deploy.quantization import NUM_FIRST_LAYERS
from tasks.common.deploy.session import stack_images
from tasks.common.runtime.device import device_of

# By the divergence over 100 training images of Stanford Dogs, which were not trained on, at width 0.25: losses of the
# logits alone, rates of 3e-5 and 3e-4, and half as many epochs are worse.
NUM_EPOCHS, BATCH_SIZE, LEARNING_RATE = 4, 32, 1e-4
MAX_KERNEL, MAX_ACTIVATION = 127, 255  # int8 with zero point 0; uint8
TINY = 1e-12


class RoundedKernel(nn.Module):
    """A kernel (C_out, ...) in int8, with a scale for each output channel."""

    def forward(self, kernel: Tensor) -> Tensor:
        """The rounded values, in float32."""
        scales = kernel.detach().flatten(1).abs().amax(1).clamp_min(TINY) / MAX_KERNEL
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(kernel, scales, zeros, 0, -MAX_KERNEL, MAX_KERNEL)


def fine_tune(network: nn.Module, images: Sequence[Image], calibration: Sequence[Image], seed: int) -> nn.Module:
    """A copy of a network whose kernels are trained for 8 bits, in evaluation mode.

        mean over layers of  mean (y' - y)^2 / var y

    is minimised, with y the outputs of a layer in float32 and y' those in 8 bits, of the same images or their mirror
    images.

    Args:
        network: uint8 RGB (N, 3, S, S) -> its outputs.
        images: preprocessed training images (S, S, 3).
        calibration: others, which the ranges of activations come from.
        seed: of the order of the images.
    """
    teacher = inference_copy(network).to(device_of(network)).requires_grad_(False)
    student = inference_copy(network).to(device_of(network)).requires_grad_(True)
    ranges = _input_ranges(student, calibration)
    random, starts = np.random.default_rng(seed), range(0, len(images), BATCH_SIZE)
    num_steps = NUM_EPOCHS * len(starts)
    with ExitStack() as hooks, Progress("fine-tuning for 8 bits", num_steps) as progress:
        for layer, (low, high) in ranges[NUM_FIRST_LAYERS:]:
            hooks.enter_context(layer.register_forward_pre_hook(_rounding(low, high)))
            parametrize.register_parametrization(layer, "weight", RoundedKernel())
            # The rounded kernel stays in its place, where `quantize` finds it on its own steps.
            hooks.callback(parametrize.remove_parametrizations, layer, "weight", leave_parametrized=True)
        optimizer = torch.optim.AdamW(student.parameters(), LEARNING_RATE, weight_decay=0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        expected, actual = _record_outputs(teacher, hooks), _record_outputs(student, hooks)
        for _ in range(NUM_EPOCHS):
            order = random.permutation(len(images))
            for start in starts:
                batch = _batch(student, [images[row] for row in order[start : start + BATCH_SIZE]])
                batch = batch.flip(3) if random.random() < 0.5 else batch
                with torch.no_grad():
                    teacher(batch)
                student(batch)
                loss = torch.stack([_relative_error(*outputs) for outputs in zip(expected, actual, strict=True)]).mean()
                expected.clear()
                actual.clear()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                progress.advance()
    return student.requires_grad_(False)


def _layers(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _record_outputs(network: nn.Module, hooks: ExitStack) -> list[Tensor]:
    """A list that each call of the network extends by the outputs of its layers."""
    outputs: list[Tensor] = []
    for layer in _layers(network):
        hooks.enter_context(layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output)))
    return outputs


def _relative_error(expected: Tensor, actual: Tensor) -> Tensor:
    return (actual - expected).square().mean() / expected.var().clamp_min(TINY)


@torch.no_grad()
def _input_ranges(network: nn.Module, images: Sequence[Image]) -> list[tuple[nn.Module, tuple[float, float]]]:
    """The layers in the order in which they are called, with the smallest and the largest value of their inputs."""
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def widen(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        low, high = ranges.get(layer, (0.0, 0.0))
        ranges[layer] = min(low, float(inputs[0].min())), max(high, float(inputs[0].max()))

    with ExitStack() as hooks:
        for layer in _layers(network):
            hooks.enter_context(layer.register_forward_pre_hook(widen))
        for start in range(0, len(images), BATCH_SIZE):
            network(_batch(network, images[start : start + BATCH_SIZE]))
    return list(ranges.items())


def _rounding(low: float, high: float) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    """A hook that rounds a layer's input to uint8."""
    scale = max(high - low, TINY) / MAX_ACTIVATION
    zero = round(-low / scale)
    return lambda _, inputs: (torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero, 0, MAX_ACTIVATION),)


def _batch(network: nn.Module, images: Sequence[Image]) -> Tensor:
    return torch.from_numpy(stack_images(images)).to(device_of(network))
