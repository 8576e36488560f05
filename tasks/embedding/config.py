"""Settings of the embedding task; `configs/embedding/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from tasks.common.config import (
    FACE_ARCHITECTURE,
    HARDWARE,
    LOADER,
    WITHOUT_RUN,
    FaceDataConfig,
    OnnxInputConfig,
    TaskConfig,
    VerbSettings,
    require_size_of_name,
)
from tasks.common.config import FACE_INPUT as FACE_CROP
from tasks.common.ranges import AtLeast2, InputSize, LeftOpenUnit, NonNegativeInt, OpenUnit, Positive, require

FACE_INPUT = (*FACE_CROP, "data.pixel_range", "faces")
PUBLISHED = ("backbone", "onnx_input")


@dataclass(frozen=True, kw_only=True)
class EmbeddingDataConfig(FaceDataConfig, group="data"):
    """Face photos, one folder per identity.

    Args:
        lfw: folder in LFW's layout with pairs.txt, to validate on its pairs and train on all identities of root; null
            to validate on all pairs of the val photos.
    """

    lfw: str | None = None
    input_size: InputSize = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.fold is None or self.lfw is None, "data.fold", "null with data.lfw, which is scored", self.fold)


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(TaskConfig):
    """FaceNet on MobileNet (Howard et al. 2017, section 4.7, Table 14).

    Args:
        data: the dataset.
        network: mobilenet (the one of backbone.name) or inception_resnet_v1 (FaceNet's, whose 512 outputs are the
            embedding with embedding_dim null; backbone.name has no effect then).
        onnx_input: preprocessing for an ONNX file in place of a trained network.
        embedding_dim: embedding size; null for the backbone's pooled features without a projection.
        faces: where faces are detected, which of a photo's faces predict, index and search take: all, the largest, or
            one (a photo with several is left out).
        loss: cosface or arcface (softmax over the training identities with an additive margin), or triplet (with
            semi-hard negatives).
        margin: on the cosine (cosface; usually 0.35), the angle in radians (arcface; 0.5) or the squared distance
            (triplet; 0.2).
        scale: logit scale of cosface and arcface.
        photos_per_identity: K photos of each identity in a batch, which holds batch_size / K identities.
        min_crop_area: smallest area of a random crop, as a fraction of the face crop.
        randaugment_ops: number of RandAugment operations; 0 disables it.
        fars: false accept rates at which the true accept rate is reported; undefined with fewer than 1 / rate impostor
            pairs.
    """

    ARCHITECTURE: ClassVar[tuple[str, ...]] = (
        *TaskConfig.ARCHITECTURE,
        *FACE_ARCHITECTURE,
        "network",
        "embedding_dim",
    )
    ACTS_IN: ClassVar[VerbSettings] = {
        "evaluate": ("fars",),
        "evaluate" + WITHOUT_RUN: PUBLISHED,
        "predict": FACE_INPUT,
        "predict" + WITHOUT_RUN: PUBLISHED,
        "export": ("fars",),
        "export" + WITHOUT_RUN: ("backbone",),
        "cost": ("network", "embedding_dim", "loss"),
        "benchmark": ("embedding_dim",),
        "index": (*FACE_INPUT, *HARDWARE, *LOADER),
        "index" + WITHOUT_RUN: ("pretrained", *PUBLISHED),
        "search": (*FACE_INPUT, *HARDWARE, *LOADER),
        "search" + WITHOUT_RUN: ("pretrained", *PUBLISHED),
        "remove": (),
    }

    data: EmbeddingDataConfig = field(default_factory=EmbeddingDataConfig)
    network: Literal["mobilenet", "inception_resnet_v1"] = "mobilenet"
    onnx_input: OnnxInputConfig = field(default_factory=OnnxInputConfig)
    embedding_dim: AtLeast2 | None = 128
    faces: Literal["all", "largest", "one"] = "all"
    loss: Literal["cosface", "arcface", "triplet"] = "cosface"
    margin: Annotated[float, Interval(ge=0, lt=2)] = 0.35
    scale: Positive = 30.0
    photos_per_identity: AtLeast2 = 4
    min_crop_area: LeftOpenUnit = 0.8
    randaugment_ops: NonNegativeInt = 0
    fars: tuple[OpenUnit, ...] = (1e-1, 1e-2, 1e-3, 1e-4)

    def __post_init__(self) -> None:
        super().__post_init__()
        size, photos = self.optim.batch_size, self.photos_per_identity
        require(
            size % photos == 0 and size >= 2 * photos,
            "photos_per_identity",
            f"a divisor of optim.batch_size ({size}) and at most half of it",
            photos,
        )
        balance = self.optim.balance
        require(balance == 0, "optim.balance", "0 in this task, where identities occur equally often", balance)
        is_supported = self.loss != "triplet" or self.optim.layers != "linear_probe"
        require(is_supported, "loss", "cosface or arcface with optim.layers linear_probe", self.loss)
        require_size_of_name(self.backbone, self.data.input_size)
