"""Settings of a distillation, beside those of the student's task; recipes are in `configs/distill/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.common.config import OnnxInputConfig
from tasks.common.ranges import Positive, PositiveInt, RightOpenUnit, Settings, require, require_region

ClassLoss = Literal["kd", "dkd", "dist"]
Part = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class OnnxConfig(OnnxInputConfig, group="onnx"):
    """Preprocessing and outputs of an ONNX teacher.

    Args:
        input_size: side of its square input in pixels; null to read it from the file.
        outputs: logits or probabilities, for classification and attributes.
    """

    input_size: PositiveInt | None = None
    outputs: Literal["logits", "probabilities"] = "logits"


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Settings):
    """How a student is distilled from its teachers (Howard et al. 2017, sections 4.5 and 4.7).

    Args:
        teacher: facenet, attributes, a run folder, torchvision:<name>, timm:<name> or an .onnx file; several are
            averaged.
        unlabelled: images, folders and globs to train on, in place of the training images below data.root.
        unlabelled_part: region cut out of each unlabelled image, as data.face_part; null for data.face_part itself.
        alpha: weight of the task's own loss on labels; the distillation loss has weight 1 - alpha.
        class_loss: distillation loss of classes: kd (Hinton), dkd (Zhao) or dist (Huang); of pixels only kd.
        temperature: of the softmax of student and teacher, for classes.
        hint_stride: train the student's feature map at this stride to match the teacher's, through a 1x1 convolution
            (FitNets); null for no hint.
        views: augmented views of each image, whose teacher outputs are cached on disk; null for a new view in every
            epoch and no cache.
        baseline: also train the same student without a teacher, on labels and for the same number of steps.
        onnx: preprocessing and outputs of an ONNX teacher.
    """

    teacher: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    unlabelled_part: Part | None = None
    alpha: RightOpenUnit = 0.0
    class_loss: ClassLoss = "kd"
    temperature: Positive = 4.0
    hint_stride: int | None = None
    views: PositiveInt | None = 10
    baseline: bool = True
    onnx: OnnxConfig = field(default_factory=OnnxConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.teacher), "teacher", "at least one", self.teacher)
        if self.unlabelled:
            require(self.alpha == 0, "alpha", "0 with --unlabelled, whose images have no labels", self.alpha)
        if self.unlabelled_part is not None:
            require_region("unlabelled_part", self.unlabelled_part)
