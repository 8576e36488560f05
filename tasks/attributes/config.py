"""Settings of the attributes task; `configs/attributes/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.common.config import TaskConfig, require_size_of_name
from tasks.common.ranges import ClosedUnit, InputSize, LeftOpenUnit, NonNegativeInt, Settings, require_region


@dataclass(frozen=True, kw_only=True)
class AttributesDataConfig(Settings, group="data"):
    """Images in CelebA's layout: img_align_celeba, list_attr_celeba.txt, list_eval_partition.txt.

    Args:
        root: folder of the data; null for the drawn sample.
        validate_on: the partition of that name.
        input_size: side of the network's square input in pixels; free at test time too.
        face_part: what is cut out of each image: x0, y0, x1, y1 in shares of its width and height.
        align: YuNet's ONNX file: faces are found and aligned by five points first; null where they are aligned already.
    """

    root: str | None = None
    validate_on: Literal["val", "test"] = "val"
    input_size: InputSize = 224
    face_part: tuple[float, float, float, float] = (0, 0, 1, 1)
    align: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_region("data.face_part", self.face_part)


@dataclass(frozen=True, kw_only=True)
class AttributesConfig(TaskConfig):
    """A backbone and a sigmoid for each attribute (Howard et al. 2017, section 4.5, Table 12).

    Args:
        data: the images.
        balance: how much more a rare attribute weighs where it is there: by ((1 - p) / p)^balance, p being its share of
            the training images. 0: all weigh the same; 1: both sides of each attribute weigh the same. Predicted
            probabilities are corrected for it.
        min_crop_area: smallest share of the image that a training crop has.
        randaugment_ops: RandAugment's number of operations; 0 for none.
    """

    data: AttributesDataConfig = field(default_factory=AttributesDataConfig)
    balance: ClosedUnit = 0.5
    min_crop_area: LeftOpenUnit = 0.6
    randaugment_ops: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size_of_name(self.backbone, self.data.input_size)
