"""Settings of the classification task; `configs/classification/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tasks.common.config import WITHOUT_RUN, DataConfig, TaskConfig, VerbSettings, require_size_of_name
from tasks.common.ranges import LeftOpenUnit, NonNegative, NonNegativeInt, RightOpenUnit, Settings


@dataclass(frozen=True, kw_only=True)
class ClassificationDataConfig(DataConfig, group="data"):
    """Images with one class each.

    Args:
        format: auto to look for it. folder: train/<class> and val/<class>, or only <class>; imagenet: train/<wnid> and
            val/<wnid>, class ids from classes.txt or LOC_synset_mapping.txt if present; stanford_dogs: Images,
            train_list.mat and test_list.mat; shards: tar files of WebDataset, key.jpg beside key.cls.
        crop_fraction: at evaluation the shorter side is resized to input_size / crop_fraction, then centre-cropped.
    """

    format: Literal["auto", "folder", "imagenet", "stanford_dogs", "shards"] = "auto"
    crop_fraction: LeftOpenUnit = 0.875


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Settings, group="augment"):
    """Training augmentation.

    Args:
        min_crop_area: smallest area of a random crop, as a fraction of the image; the paper avoids small crops.
        randaugment_ops: number of RandAugment operations; 0 disables it.
        mixup_alpha: MixUp's Beta parameter; 0 disables it. With CutMix also enabled, each batch uses one of the two.
        cutmix_alpha: CutMix's Beta parameter; 0 disables it.
    """

    min_crop_area: LeftOpenUnit = 0.25
    randaugment_ops: NonNegativeInt = 0
    mixup_alpha: NonNegative = 0.0
    cutmix_alpha: NonNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(TaskConfig):
    """A backbone and a softmax over classes (Howard et al. 2017, sections 4.1-4.3, Tables 4-10).

    Args:
        data: the dataset.
        augment: training augmentation.
        label_smoothing: probability mass spread uniformly over all classes in the training targets.
    """

    ACTS_IN: ClassVar[VerbSettings] = {
        "predict": ("data.input_size", "data.crop_fraction"),
        "predict" + WITHOUT_RUN: ("backbone", "data"),
        "evaluate" + WITHOUT_RUN: ("backbone",),
        "export" + WITHOUT_RUN: ("backbone",),
    }

    data: ClassificationDataConfig = field(default_factory=ClassificationDataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    label_smoothing: RightOpenUnit = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size_of_name(self.backbone, self.data.input_size)
