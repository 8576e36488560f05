"""Settings of the attributes task; `configs/attributes/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from tasks.common.config import (
    FACE_ARCHITECTURE,
    FACE_INPUT,
    FaceDataConfig,
    TaskConfig,
    VerbSettings,
    require_size_of_name,
)
from tasks.common.ranges import ClosedUnit, LeftOpenUnit, NonNegativeInt, require, require_threshold


@dataclass(frozen=True, kw_only=True)
class AttributesDataConfig(FaceDataConfig, group="data"):
    """Images and a list of their attributes: CelebA's, or a CSV file with a column for each."""


@dataclass(frozen=True, kw_only=True)
class AttributesConfig(TaskConfig):
    """A backbone and a probability for each attribute (Howard et al. 2017, section 4.5, Table 12).

    Args:
        data: the dataset.
        head: linear (a logit for each attribute), or ages (a hidden layer; the probability of an age group, such as
            Child, is the sum over a softmax of the ages 0 to 99; a logit for each other attribute).
        faces: where faces are detected, which of a photo's faces predict takes: all, the largest, or one (a photo with
            several is left out).
        pos_weight_exponent: the loss of an attribute's positives has the weight ((1 - p) / p)^pos_weight_exponent,
            where p is its prevalence in the training images. 0: no weights; 1: positives and negatives of each
            attribute have equal total weight. Predicted probabilities are corrected for it.
        min_crop_area: smallest area of a random crop, as a fraction of the image.
        randaugment_ops: number of RandAugment operations; 0 disables it.
        threshold: lowest probability at which an attribute is taken for present, such as 0.4, f1, precision=0.9 or
            recall=0.8. The words are looked up in the run's newest thresholds.csv, which train and evaluate write: f1
            is the threshold with the highest F1 over all attributes, precision=0.9 the lowest with that precision, and
            recall=0.8 the highest with that recall.
    """

    ARCHITECTURE: ClassVar[tuple[str, ...]] = (*TaskConfig.ARCHITECTURE, *FACE_ARCHITECTURE, "head")
    BUILT_IN: ClassVar[tuple[str, ...]] = (*TaskConfig.BUILT_IN, "pos_weight_exponent")
    ACTS_IN: ClassVar[VerbSettings] = {
        "evaluate": ("threshold",),
        "predict": (*FACE_INPUT, "faces", "threshold"),
        "export": ("threshold",),
        "cost": ("head",),
    }

    data: AttributesDataConfig = field(default_factory=AttributesDataConfig)
    head: Literal["linear", "ages"] = "linear"
    faces: Literal["all", "largest", "one"] = "all"
    pos_weight_exponent: ClosedUnit = 0.5
    min_crop_area: LeftOpenUnit = 0.6
    randaugment_ops: NonNegativeInt = 0
    threshold: float | str = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_threshold("threshold", self.threshold)
        expected = "0 in this task, where pos_weight_exponent weighs the positives of each attribute"
        require(self.optim.balance == 0, "optim.balance", expected, self.optim.balance)
        require_size_of_name(self.backbone, self.data.input_size)
