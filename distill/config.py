"""Settings of a distillation, beside those of the student's task; `configs/distill/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.common.ranges import Positive, PositiveInt, RightOpenUnit, Settings, require, require_region

ClassLoss = Literal["kd", "dkd", "dist"]
Part = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class OnnxConfig(Settings, group="onnx"):
    """What an ONNX teacher expects, where its file does not say so.

    Args:
        input_size: side of its square input in pixels; null for the one in the file.
        layout: nchw or nhwc; null for what the file says.
        mean: subtracted from R, G, B of 0 to 255.
        std: R, G, B are divided by it afterwards.
        outputs: of classes and attributes: logits or probabilities.
    """

    input_size: PositiveInt | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[Positive, Positive, Positive] = (58.395, 57.12, 57.375)
    outputs: Literal["logits", "probabilities"] = "logits"


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Settings):
    """How a student learns from a teacher (Howard et al. 2017, sections 4.5 and 4.7).

    Args:
        teacher: facenet, attributes, a run folder, torchvision:<name>, timm:<name> or an .onnx file; of several, the
            mean is taught.
        unlabelled: images, folders and globs to learn from, in place of the training images below data.root.
        unlabelled_part: what is cut out of each unlabelled image, as data.face_part; null for data.face_part itself.
        alpha: share of the task's own loss on labels in the whole; the rest is the teacher's, so never all of it.
        class_loss: how classes are taught: kd (Hinton), dkd (Zhao) or dist (Huang).
        temperature: both sides' logits are divided by it, where classes are taught.
        hint_stride: the student's map at this stride learns to be like the teacher's, through a 1x1 convolution; null
            for no such hint.
        views: augmented views of each image that the teacher is asked about; its answers are kept on disk. null: a new
            view in every epoch, and nothing is kept.
        alone: train the same student without a teacher too, on labels and for as many steps, to compare.
        onnx: what an ONNX teacher expects.
    """

    teacher: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    unlabelled_part: Part | None = None
    alpha: RightOpenUnit = 0.0
    class_loss: ClassLoss = "kd"
    temperature: Positive = 4.0
    hint_stride: int | None = None
    views: PositiveInt | None = 10
    alone: bool = True
    onnx: OnnxConfig = field(default_factory=OnnxConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.teacher), "teacher", "at least one", self.teacher)
        if self.unlabelled:
            require(self.alpha == 0, "alpha", "0 with --unlabelled, whose images have no labels", self.alpha)
        if self.unlabelled_part is not None:
            require_region("unlabelled_part", self.unlabelled_part)
