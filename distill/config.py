"""Settings of a distillation, beside those of the student's task; `configs/distill/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.common.config import require, require_face_part

ClassLoss = Literal["kd", "dkd", "dist"]
Part = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class OnnxConfig:
    """What an ONNX teacher expects, where its file does not say so.

    Args:
        input_size: side of its square input in pixels; null for the one in the file.
        layout: nchw or nhwc; null for what the file says.
        mean: subtracted from R, G, B of 0 to 255.
        std: R, G, B are divided by it afterwards.
        outputs: of classes and attributes: logits or probabilities.
    """

    input_size: int | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    outputs: Literal["logits", "probabilities"] = "logits"

    def __post_init__(self) -> None:
        require(self.input_size is None or self.input_size >= 1, "onnx.input_size", "1 pixel or more", self.input_size)
        require(all(value > 0 for value in self.std), "onnx.std", "three positive numbers", self.std)


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How a student learns from a teacher (Howard et al. 2017, sections 4.5 and 4.7).

    Args:
        teacher: facenet, attributes, a run folder, torchvision:<name>, timm:<name> or an .onnx file; of several, the
            mean is taught.
        unlabelled: images, folders and globs to learn from, in place of the training images below data.root.
        unlabelled_part: what is cut out of each unlabelled image, as data.face_part; null for data.face_part itself.
        alpha: share of the task's own loss on labels in the whole; the rest is the teacher's.
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
    alpha: float = 0.0
    class_loss: ClassLoss = "kd"
    temperature: float = 4.0
    hint_stride: int | None = None
    views: int | None = 10
    alone: bool = True
    onnx: OnnxConfig = field(default_factory=OnnxConfig)

    def __post_init__(self) -> None:
        require(bool(self.teacher), "teacher", "at least one", self.teacher)
        require(0 <= self.alpha < 1, "alpha", "0 or more and under 1 (at 1 there is no teacher)", self.alpha)
        if self.unlabelled:
            require(self.alpha == 0, "alpha", "0 with --unlabelled, whose images have no labels", self.alpha)
        if self.unlabelled_part is not None:
            require_face_part("unlabelled_part", self.unlabelled_part)
        require(self.temperature > 0, "temperature", "a positive number", self.temperature)
        require(self.views is None or self.views >= 1, "views", "1 or more, or null", self.views)
