"""Settings of the embedding task; `configs/embedding/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from tasks.common.config import TaskConfig, require_size_of_name
from tasks.common.ranges import (
    AtLeast2,
    InputSize,
    LeftOpenUnit,
    NonNegativeInt,
    OpenUnit,
    Positive,
    Settings,
    require,
    require_region,
)


@dataclass(frozen=True, kw_only=True)
class EmbeddingDataConfig(Settings, group="data"):
    """Photos of persons, a folder for each.

    Args:
        root: folder with train/<person> and val/<person>, or <person> alone, which is then split; null for the drawn
            sample.
        lfw: folder in LFW's layout with pairs.txt: validation is by its pairs, and all persons of root are trained on;
            null: validation is by all pairs of the persons in val.
        val_fraction: expected fraction of the identities, where root has no split of its own; a hash of the name
            decides where each goes; 1 takes all for validation.
        input_size: side of the network's square input in pixels; free at test time too.
        face_part: what is cut out of each photo: x0, y0, x1, y1 in shares of its width and height.
        align: YuNet's ONNX file: faces are found and aligned by five points first; null where they are aligned already.
    """

    root: str | None = None
    lfw: str | None = None
    val_fraction: LeftOpenUnit = 0.2
    input_size: InputSize = 128
    face_part: tuple[float, float, float, float] = (0, 0, 1, 1)
    align: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_region("data.face_part", self.face_part)


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(TaskConfig):
    """FaceNet on MobileNet (Howard et al. 2017, section 4.7, Table 14).

    Args:
        data: the photos.
        embedding_dim: numbers in an embedding; null for the backbone's pooled features as they are.
        loss: what is learnt by. cosface, arcface: a softmax over the training persons, with a margin; triplet: each
            photo nearer to the person's others than to a semi-hard other person's.
        margin: by which the right person must win: of cosines (cosface; 0.35 is usual), of angles in radians (arcface,
            0.5), of squared distances (triplet, 0.2).
        scale: of the cosines, of cosface and arcface.
        photos_per_identity: K of each person in a batch, which so has batch_size / K persons.
        min_crop_area: smallest share of the face that a training crop has.
        randaugment_ops: RandAugment's number of operations; 0 for none.
        fars: false accept rates that the true accept rate is reported at; those that too few pairs of different persons
            support are left out.
    """

    data: EmbeddingDataConfig = field(default_factory=EmbeddingDataConfig)
    embedding_dim: AtLeast2 | None = 128
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
            f"a number of which optim.batch_size, {size}, is at least twice as large and a multiple",
            photos,
        )
        probes_with_triplets = self.loss == "triplet" and self.optim.layers == "linear_probe"
        require(not probes_with_triplets, "loss", "cosface or arcface where optim.layers is linear_probe", self.loss)
        require_size_of_name(self.backbone, self.data.input_size)
