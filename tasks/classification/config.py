"""Settings of the classification task; `configs/classification/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.common.config import TaskConfig, require_size_of_name
from tasks.common.ranges import InputSize, LeftOpenUnit, NonNegative, NonNegativeInt, OpenUnit, RightOpenUnit, Settings


@dataclass(frozen=True, kw_only=True)
class ClassificationDataConfig(Settings, group="data"):
    """Images with one class each.

    Args:
        root: folder of the data; null for the drawn sample.
        name: the layout below root. folder: train/<class> and val/<class>, or <class> alone, which is then split;
            imagenet: train/<wnid> and val/<wnid>, class ids by classes.txt or LOC_synset_mapping.txt where there is
            one; stanford_dogs: Images, train_list.mat and test_list.mat.
        val_fraction: expected fraction of each class's images, where the data have no split of their own; a hash of its
            name decides where each image goes, and every class has at least one on either side.
        input_size: side of the network's square input in pixels; free at test time too.
        crop_fraction: for prediction the shorter side is scaled to input_size / crop_fraction, and the centre cut out.
    """

    root: str | None = None
    name: Literal["folder", "imagenet", "stanford_dogs"] = "folder"
    val_fraction: OpenUnit = 0.2
    input_size: InputSize = 224
    crop_fraction: LeftOpenUnit = 0.875


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Settings, group="augment"):
    """What is done to the training images.

    Args:
        min_crop_area: smallest share of the image that a training crop has; the paper limits small crops.
        randaugment_ops: RandAugment's number of operations; 0 for none.
        mixup_alpha: strength of MixUp; 0 for none. With CutMix too, each batch has one of them.
        cutmix_alpha: strength of CutMix; 0 for none.
    """

    min_crop_area: LeftOpenUnit = 0.25
    randaugment_ops: NonNegativeInt = 0
    mixup_alpha: NonNegative = 0.0
    cutmix_alpha: NonNegative = 0.0


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(TaskConfig):
    """A backbone and a softmax over classes (Howard et al. 2017, sections 4.1-4.3, Tables 4-10).

    Args:
        data: the images.
        augment: what is done to the training images.
        label_smoothing: share of the true class's probability that is spread over all classes in training.
    """

    data: ClassificationDataConfig = field(default_factory=ClassificationDataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    label_smoothing: RightOpenUnit = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size_of_name(self.backbone, self.data.input_size)
