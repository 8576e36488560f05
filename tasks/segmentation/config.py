"""Settings of the segmentation task; `configs/segmentation/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Interval

from tasks.common.config import DataConfig, TaskConfig, VerbSettings, require_size_of_name
from tasks.common.ranges import ClosedUnit, InputSize, NonNegative, Settings, require

NETWORK = ("head", "output_stride", "window")
MAX_STRIDE = 32  # of a feature map; windows start at its multiples, so that their logits are on one grid


@dataclass(frozen=True, kw_only=True)
class SegmentationDataConfig(DataConfig, group="data"):
    """Images and masks.

    Args:
        format: auto to look for it. folder: images and masks of class ids, with the names in classes.txt; voc:
            JPEGImages, SegmentationClass and ImageSets/Segmentation; instances: masks where each object of one class
            has a value of its own; coco: COCO's JSON with the outlines of objects; shards: tar files of WebDataset,
            key.jpg beside key.mask.png.
    """

    format: Literal["auto", "folder", "voc", "instances", "coco", "shards"] = "auto"
    input_size: InputSize = 512


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentConfig(Settings, group="augment"):
    """Training augmentation: each image at a random scale, a part of it, perhaps mirrored, in other colours.

    Args:
        min_scale: smallest scale of the image, relative to the network's input; void is around a smaller one.
        max_scale: largest scale, of which a part is cut out.
        jitter_strength: multiplies the probability of each change of brightness, contrast, hue and saturation.
    """

    min_scale: Annotated[float, Interval(gt=0, le=1)] = 0.5
    max_scale: Annotated[float, Ge(1)] = 2.0
    jitter_strength: ClosedUnit = 1.0


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(TaskConfig):
    """DeepLabV3+ or Lite R-ASPP on MobileNet (Chen et al. 2018, Sandler et al. 2018, Howard et al. 2019).

    Args:
        data: images and masks.
        augment: training augmentation.
        head: deeplabv3plus (with a decoder at stride 4), deeplabv3 (without, as torchvision has it), or lraspp (Lite
            R-ASPP, the smallest).
        output_stride: of the backbone's last feature map; 8 is finer and takes about three times the mult-adds of 16.
        window: side of the overlapping square windows in pixels in which a larger input is predicted, a multiple of 64,
            such as 512 at data.input_size 1024; null to predict it as a whole.
        class_weight_exponent: a class has the weight (1 / p)^class_weight_exponent in the loss, where p is its fraction
            of the training pixels. 0: none; 1: all classes have the same influence.
        auxiliary_weight: of the loss of a second, small head on the map before the last; 0 for no such head.
    """

    ARCHITECTURE: ClassVar[tuple[str, ...]] = (
        *TaskConfig.ARCHITECTURE,
        *NETWORK,
        "auxiliary_weight",  # whether there is a second head
    )
    BUILT_IN: ClassVar[tuple[str, ...]] = (*TaskConfig.BUILT_IN, "window")
    ACTS_IN: ClassVar[VerbSettings] = {
        "evaluate": ("window",),
        "predict": ("data.input_size", "window"),
        "export": ("window",),
        "cost": NETWORK,
        "benchmark": NETWORK,
    }

    data: SegmentationDataConfig = field(default_factory=SegmentationDataConfig)
    augment: SegmentationAugmentConfig = field(default_factory=SegmentationAugmentConfig)
    head: Literal["deeplabv3plus", "deeplabv3", "lraspp"] = "deeplabv3plus"
    output_stride: Literal[8, 16, 32] = 16
    window: InputSize | None = None
    class_weight_exponent: ClosedUnit = 0.0
    auxiliary_weight: NonNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.optim.layers != "linear_probe", "optim.layers", "all or gradual in this task", self.optim.layers)
        require_size_of_name(self.backbone, self.data.input_size)
        if self.window is not None:
            # Windows start at multiples of half their side.
            for key, size, step in (
                ("window", self.window, 2 * MAX_STRIDE),
                ("data.input_size", self.data.input_size, MAX_STRIDE),
            ):
                require(size % step == 0, key, f"a multiple of {step} where there are windows", size)
