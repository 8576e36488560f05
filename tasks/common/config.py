"""The settings that every task has. Imports nothing heavy: the command line reads these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from backbone.names import ConventionsName, parse_name
from tasks.common.ranges import (
    AtLeast2,
    NonNegative,
    NonNegativeInt,
    OpenUnit,
    Positive,
    PositiveInt,
    RightOpenUnit,
    Settings,
    require,
)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """The network's body.

    Args:
        name: mobilenet_<width>[_conv|_shallow|_head], mobilenet_v2_<width>, mobilenet_v3_large_<width> or
            mobilenet_v3_small_<width>, for example mobilenet_0.5.
        pretrained: none (random weights); keras, timm or torchvision (the published file that fits, downloaded once);
            the name of one (`python -m backbone weights` lists them); a .h5, .safetensors or .pth file; a run folder.
            In classification, classes that these weights have by name start as they are there.
        conventions: padding, epsilon and normalisation; null for those that come with the weights.
    """

    name: str = "mobilenet_1.0"
    pretrained: str = "none"
    conventions: ConventionsName | None = None

    def __post_init__(self) -> None:
        try:
            parse_name(self.name)
        except ValueError as error:
            raise ValueError(f"backbone.name: {error}") from error


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Settings, group="optim"):
    """How the weights change.

    Args:
        name: sgd (with Nesterov momentum), adamw, or rmsprop (the paper's; decay 0.9, momentum 0.9).
        lr: highest learning rate, for one optimiser step of batch_size * accumulate images.
        momentum: of sgd and rmsprop; adamw's first beta.
        weight_decay: on standard and pointwise kernels only; none on depthwise kernels, BN and biases (section 3.2).
        schedule: cosine (to zero at the end), exponential (the paper's: times 0.94 every 2 epochs), or constant.
        warmup_epochs: the learning rate rises linearly over so many epochs.
        epochs: passes over the training images.
        batch_size: images in one forward pass; batch normalisation needs 2.
        accumulate: forward passes in one optimiser step.
        clip_norm: largest norm of the whole gradient; null for no limit.
        ema_decay: decay of the EMA weights, which are evaluated and kept; null for none.
        layers: which layers are trained: all; linear_probe (the head alone, by L-BFGS on cached features of the
            frozen backbone: seconds, no augmentation); or gradual (the head first, then one more
            stage of the backbone every unfreeze_epochs, from the last to the first).
        unfreeze_epochs: see layers.
        freeze_bn: batch normalisation keeps the running mean and variance of the pretrained weights, which come from
            more images than a small data set has.
        sync_batch_norm: with several processes, batch statistics are those of all processes' images, which takes GPUs;
            null: where a process has fewer than 16 images.
    """

    name: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    lr: Positive = 0.02
    momentum: RightOpenUnit = 0.9
    weight_decay: NonNegative = 4e-5
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    warmup_epochs: NonNegative = 1.0
    epochs: PositiveInt = 60
    batch_size: AtLeast2 = 16
    accumulate: PositiveInt = 1
    clip_norm: Positive | None = 10.0
    ema_decay: OpenUnit | None = 0.999
    layers: Literal["all", "linear_probe", "gradual"] = "all"
    unfreeze_epochs: Positive = 1.0
    freeze_bn: bool = False
    sync_batch_norm: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Settings, group="loop"):
    """How the run goes; but for rounding none of it changes what is learnt, only when it is looked at.

    Args:
        device: auto (cuda where there is one), cpu or cuda.
        precision: fp32, or autocast to bf16 or fp16; a CPU computes fp16 as bf16.
        compile: training runs through torch.compile, which takes minutes first; for long runs on a GPU.
        deterministic: the same run ends with the same bits on a GPU too, which is slower; a warning names an operation
            that has no such form. On a CPU this is always so.
        num_workers: loader processes; 0 loads in the main process.
        evaluate_every: epochs between evaluations, the best of which is kept; the last epoch is always evaluated.
        checkpoint_minutes: a checkpoint is written after each epoch, and after so many minutes within one.
        max_unreadable_fraction: the run stops when a larger fraction of the images cannot be read.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    deterministic: bool = False
    num_workers: NonNegativeInt = 2
    evaluate_every: PositiveInt = 1
    checkpoint_minutes: NonNegative = 5.0
    max_unreadable_fraction: RightOpenUnit = 0.01


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Settings):
    """What every task's configuration has; a task adds its `data` and its own settings.

    Args:
        backbone: the network's body.
        optim: how the weights change.
        loop: how the run goes.
        seed: of initial weights, order and augmentation.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    seed: NonNegativeInt = 0


def require_size_of_name(backbone: BackboneConfig, input_size: int) -> None:
    """Raise a ValueError if the backbone's name says another input size."""
    size = parse_name(backbone.name).input_size
    agrees = size in (None, input_size)
    require(agrees, "data.input_size", f"{size}, as backbone.name says (or a name without it)", input_size)
