"""The settings that every task has. Imports nothing heavy: the command line reads these before torch is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from backbone.names import ConventionsName, parse_name
from tasks.common.ranges import (
    AtLeast2,
    ClosedUnit,
    InputSize,
    LeftOpenUnit,
    NonNegative,
    NonNegativeInt,
    OpenUnit,
    Positive,
    PositiveInt,
    RightOpenUnit,
    Settings,
    require,
    require_fold,
    require_region,
)

VerbSettings = Mapping[str, tuple[str, ...]]
WITHOUT_RUN = " without --run"  # after a verb: what acts only where published weights take the place of a run

HARDWARE = ("loop.device", "loop.num_threads", "loop.precision", "loop.deterministic")
LOADER = ("loop.num_workers", "loop.max_unreadable_fraction")
FACE_INPUT = ("data.input_size", "data.face_part", "data.align", "data.face_crop", "data.face_scale")
FACE_ARCHITECTURE = ("data.face_crop", "data.face_scale")
LOGGERS = ("tensorboard", "mlflow", "wandb")
EVALUATION = ("data", "optim.batch_size", *HARDWARE, *LOADER)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(Settings, group="backbone"):
    """The backbone.

    Args:
        name: such as mobilenet_0.5; mobilenet_<width>[_conv|_shallow|_head|_early|_late][_linear|_plain]
            [_relu|_hardswish], mobilenet_v2_<width>, mobilenet_v3_large_<width>[_reduced],
            mobilenet_v3_small_<width>[_reduced] or resnet50_<width>[_separable].
        conventions: padding, BN epsilon and input normalisation; null for those of the weights.
        channels: of each layer of MobileNet v1, as `prune` writes them; null for those of the name.
    """

    name: str = "mobilenet_1.0"
    conventions: ConventionsName | None = None
    channels: tuple[PositiveInt, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parsed = parse_name(self.name)
        except ValueError as error:
            raise ValueError(f"backbone.name: {error}") from error
        is_null = self.channels is None
        require(is_null or parsed.family == "v1", "backbone.channels", f"null with {self.name}", self.channels)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings, group="data"):
    """The data; each task adds its own layouts.

    Args:
        root: dataset folder; its format is found by looking at it. Or tar files of WebDataset: a folder of them, a list
            such as train-{0000..0009}.tar, or a URL of these. null for the generated sample.
        val_fraction: expected fraction of validation images where the data have no validation part: a hash of the name
            decides, so adding images moves none. null (or none) trains on all images without scores; 1 takes all for
            validation.
        fold: of a cross-validation, such as 2/5: the data's train and val parts are joined and divided by that hash.
        input_size: side of the network's square input in pixels; may differ between training and evaluation.
        pixel_range: in images of more than 8 bits, the values that become black and white, such as [0, 4095] for 12
            bits; null for the range of the type: [0, 65535] for 16 bits, [0, 1] for floats.
    """

    root: str | None = None
    val_fraction: LeftOpenUnit | None = 0.2
    fold: str | None = None
    input_size: InputSize = 224
    pixel_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold is not None:
            require_fold("data.fold", self.fold)
        if self.pixel_range is not None:
            low, high = self.pixel_range
            is_range = math.isfinite(low) and math.isfinite(high) and low < high
            require(is_range, "data.pixel_range", "two numbers, the lower one first", list(self.pixel_range))


@dataclass(frozen=True, kw_only=True)
class FaceDataConfig(DataConfig, group="data"):
    """Photos of faces.

    Args:
        face_part: crop of each photo without a face detector: x0, y0, x1, y1 as fractions of its width and height.
        align: face detector, to find the faces of a photo: yunet (downloaded once) or the path of YuNet's ONNX file;
            null if the photos show one face each, cropped as the model expects it.
        face_crop: crop of a detected face: aligned (its eyes, nose and mouth moved to fixed places) or box (the face's
            box made square and enlarged; outside the photo its border is repeated).
        face_scale: side of a box crop / longer side of the face's box.
    """

    face_part: tuple[float, float, float, float] = (0, 0, 1, 1)
    align: str | None = None
    face_crop: Literal["aligned", "box"] = "aligned"
    face_scale: Positive = 1.4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_region("data.face_part", self.face_part)


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Settings, group="optim"):
    """The optimiser, its schedule, and which layers it trains.

    Args:
        name: sgd (with Nesterov momentum), adamw, or rmsprop (the paper's; decay 0.9, momentum 0.9).
        lr: peak learning rate, for one optimiser step of batch_size * accumulate images.
        momentum: of sgd and rmsprop; beta1 of adamw.
        weight_decay: on standard and pointwise kernels only; none on depthwise kernels, BN and biases (section 3.2).
        schedule: cosine (to zero at the end), exponential (the paper's: times 0.94 every 2 epochs), or constant.
        warmup_epochs: length of the linear warm-up.
        epochs: passes over the training images.
        patience: stop early if the score has not risen for this many epochs; null to train all epochs. An undefined
            score is not a rise, but training goes on until one has been defined. The cosine schedule has not reached
            zero then, so the last weights are noisier than those of a full run; the best checkpoint is kept as always.
        batch_size: images in one forward pass, at least 2 for batch normalisation.
        accumulate: forward passes in one optimiser step.
        balance: exponent of class balancing, in classification, detection and geolocation: an image is shown in
            proportion to (1 / f)^balance, where f is the fraction of the training images that have its class, or the
            rarest of its classes. 0: every image once an epoch; 0.5: square-root sampling, and in detection the repeat
            factors of LVIS; 1: all classes equally often.
        clip_norm: maximum norm of the gradient; null for no clipping.
        ema_decay: decay of the EMA weights, which are evaluated and saved; null for none.
        layers: which layers are trained: all; linear_probe (the head alone, by L-BFGS on cached features of the
            frozen backbone: seconds, no augmentation); or gradual (the head first, then one more
            stage of the backbone every unfreeze_epochs, from the last to the first).
        unfreeze_epochs: epochs between two stages, where layers is gradual.
        freeze_bn: batch normalisation keeps the running mean and variance of the pretrained weights, which come from
            more images than a small data set has.
        keep_zeros: kernels' weights that are zero at the start stay zero, as in a run of prune --sparsity.
        sync_batch_norm: batch statistics over all processes, which needs GPUs; null: only where a process has fewer
            than 16 images.
    """

    name: Literal["sgd", "adamw", "rmsprop"] = "sgd"
    lr: Positive = 0.02
    momentum: RightOpenUnit = 0.9
    weight_decay: NonNegative = 4e-5
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    warmup_epochs: NonNegative = 1.0
    epochs: PositiveInt = 60
    patience: PositiveInt | None = None
    batch_size: AtLeast2 = 16
    accumulate: PositiveInt = 1
    balance: ClosedUnit = 0.0
    clip_norm: Positive | None = 10.0
    ema_decay: OpenUnit | None = 0.999
    layers: Literal["all", "linear_probe", "gradual"] = "all"
    unfreeze_epochs: Positive = 1.0
    freeze_bn: bool = False
    keep_zeros: bool = False
    sync_batch_norm: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        is_fitted = self.layers == "linear_probe"
        require(not (self.keep_zeros and is_fitted), "optim.keep_zeros", "false with optim.layers linear_probe", True)


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Settings, group="loop"):
    """Hardware, data loading, evaluation and checkpoints; apart from rounding, the trained weights do not depend on it.

    Args:
        device: auto (a GPU if there is one), cpu or cuda.
        num_threads: that a network uses on a CPU; null for as many as there are cores.
        precision: fp32, or autocast to bf16 or fp16; a CPU computes fp16 as bf16.
        compile: train through torch.compile, which takes minutes to start; for long runs on a GPU.
        deterministic: the same bits in every run on a GPU too, which is slower; a warning names an operation that has
            no deterministic form. A CPU is always deterministic.
        num_workers: data loader processes; 0 loads in the main process.
        evaluate_every: epochs between evaluations, the best of which is kept; the last epoch is always evaluated.
        checkpoint_minutes: time between checkpoints within an epoch; there is always one after each epoch.
        max_unreadable_fraction: stop if a larger fraction of the images cannot be read; 1 never stops.
        loggers: where losses, scores and pictures go besides the run folder: tensorboard (event files in it), mlflow or
            wandb, several with commas; each needs pip install '.[tensorboard]' and so on.
        backup: a folder in a bucket, such as s3://bucket/run, to which each checkpoint is copied; the same command with
            the same --run_dir brings it back on another machine, and continues the run.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: PositiveInt | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    deterministic: bool = False
    num_workers: NonNegativeInt = 2
    evaluate_every: PositiveInt = 1
    checkpoint_minutes: NonNegative = 5.0
    max_unreadable_fraction: ClosedUnit = 0.01
    loggers: str = "none"
    backup: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.logger_names
        is_valid = set(names) <= set(LOGGERS) and len(set(names)) == len(names)
        require(is_valid, "loop.loggers", "tensorboard, mlflow or wandb, several with commas, or none", self.loggers)

    @property
    def logger_names(self) -> tuple[str, ...]:
        """The loggers, one by one."""
        return () if self.loggers == "none" else tuple(name.strip() for name in self.loggers.split(","))


@dataclass(frozen=True, kw_only=True)
class OnnxInputConfig(Settings, group="onnx_input"):
    """Preprocessing for an ONNX file of another project.

    Args:
        layout: nchw or nhwc; null to read it from the file.
        mean: of R, G, B in 0 to 255; subtracted first.
        std: of R, G, B in 0 to 255; divided by afterwards.
    """

    layout: Literal["nchw", "nhwc"] | None = None
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Settings):
    """What every task's configuration has; a task adds its `data` and its own settings.

    Args:
        pretrained: weights to start from or to use, such as keras, a file or a run folder; none for random ones; the
            name of a published model (`models` lists them); keras, timm or torchvision (that publisher's ImageNet
            weights for the backbone) or one of their files' names (`python -m backbone weights` lists them), downloaded
            once; a file of one of these; or a run folder, of any task, or hf:USER/NAME for one on the Hugging Face Hub.
            A model of the task brings its architecture, and classes of the same name keep their outputs.
        backbone: the backbone.
        optim: optimiser, schedule and trained layers.
        loop: hardware, data loading, evaluation and checkpoints.
        seed: random seed of initial weights, data order and augmentation.
    """

    # What the network is built with: a model brings these settings along; a task adds its own.
    ARCHITECTURE: ClassVar[tuple[str, ...]] = (
        "backbone.name",
        "backbone.conventions",
        "backbone.channels",
        "data.input_size",
    )
    # What is built into an exported file with its postprocessing; a task adds its own.
    BUILT_IN: ClassVar[tuple[str, ...]] = ("data.input_size",)
    # Which settings, or whole groups, act in a verb; a task adds its own. In other verbs, as in train, all of them act.
    ACTS_IN: ClassVar[VerbSettings] = {
        "evaluate": EVALUATION,
        "evaluate" + WITHOUT_RUN: ("pretrained",),
        "predict": ("data.pixel_range", *HARDWARE),
        "predict" + WITHOUT_RUN: ("pretrained",),
        "export": (*EVALUATION, "seed"),
        "export" + WITHOUT_RUN: ("pretrained",),
        "prune": (*EVALUATION, "seed"),
        "prune" + WITHOUT_RUN: ("pretrained",),
        "models": (),
        "push": (),
        "cost": ("pretrained", "backbone.name", "backbone.channels", "data.input_size"),
        "benchmark": ("pretrained", "backbone.conventions"),
    }

    pretrained: str = "none"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    seed: NonNegativeInt = 0

    @classmethod
    def settings_of_model(cls) -> list[str]:
        """The settings that a model brings along: its architecture, and those of predictions but for the hardware."""
        keys = []
        for setting in dataclasses.fields(cls):
            group: Any = setting.default_factory
            is_group = isinstance(group, type)
            keys += (
                [f"{setting.name}.{inner.name}" for inner in dataclasses.fields(group)] if is_group else [setting.name]
            )
        return [
            key
            for key in keys
            if key in cls.ARCHITECTURE or (cls.acts_in(key, "predict", has_run=True) and key not in HARDWARE)
        ]

    @classmethod
    def acts_in(cls, key: str, verb: str, *, has_run: bool = False) -> bool:
        """Whether a setting has an effect on a verb, with `--run` or without."""
        tables = [vars(base).get("ACTS_IN", {}) for base in cls.__mro__]
        if not any(verb in table for table in tables):
            return True
        names = [verb] if has_run else [verb, verb + WITHOUT_RUN]
        acting = {setting for table in tables for name in names for setting in table.get(name, ())}
        return key in acting or key.partition(".")[0] in acting


def require_size_of_name(backbone: BackboneConfig, input_size: int) -> None:
    """Raise a ValueError if the backbone's name has another input size."""
    size = parse_name(backbone.name).input_size
    agrees = size in (None, input_size)
    require(agrees, "data.input_size", f"{size}, as in backbone.name (or a name without it)", input_size)
