"""The parts of the embedding task, named in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from datasets.alignment import FaceCrop, face_input
from datasets.faces import FaceImages, IdentityBalance, Pair, read_lfw, split_identities
from datasets.loader import Collate, Preprocess
from datasets.sample.embedding import LFW, sample_root
from datasets.transforms import CropAugmentation
from datasets.types import Face, Image, Split
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task
from tasks.embedding.config import EmbeddingConfig
from tasks.embedding.draw import draw_face
from tasks.embedding.loss import IdentityTargets, identity_targets, margin_softmax_loss, triplet_loss
from tasks.embedding.metric import VerificationMetric
from tasks.embedding.model import EmbeddingOutputs, FaceNet, decode_faces

Splits = Mapping[Split, FaceImages]


class EmbeddingTask(Task[Face]):
    """FaceNet."""

    name = "embedding"
    score_name: str

    def __init__(self, config: EmbeddingConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `identities`, the training persons, none for published weights."""
        super().__init__(config, metadata)
        self.score_name = "lfw_accuracy" if _has_pairs(config) else "auc"
        self._cut = FaceCrop(config.data.face_part, config.data.align)
        self._id_of = {identity: row for row, identity in enumerate(metadata["identities"])}
        self._splits: Splits | None = None  # read once, when they are needed
        self._folds: list[list[Pair]] | None = None

    @classmethod
    def from_data(cls, config: EmbeddingConfig) -> Self:
        """The task for the training persons."""
        splits, folds = _read(config)
        task = cls(config, {"identities": _one_of(splits, "train").identities})
        task._splits, task._folds = splits, folds
        return task

    @classmethod
    def with_num_classes(cls, config: EmbeddingConfig, num_classes: int | None) -> Self:
        """The task for so many nameless training persons; by default none, since an embedding needs none of them."""
        return cls(config, {"identities": list(map(str, range(num_classes or 0)))})

    @classmethod
    def from_published(cls, config: EmbeddingConfig) -> Self:
        """The task of published weights' pooled features, which are taken for embeddings as they are."""
        return cls(dataclasses.replace(config, embedding_dim=None), {"identities": []})

    def build_model(self) -> FaceNet:
        """The network with the configured weights."""
        num_prototypes = 0 if self.config.loss == "triplet" else len(self._id_of)
        return FaceNet(
            build_pretrained(self.config, open_pretrained(self.config)), self.config.embedding_dim, num_prototypes
        )

    def source(self, split: Split) -> FaceImages:
        """The photos of a split.

        Raises:
            ValueError: if they cannot be read.
        """
        self._read_once()
        assert self._splits is not None
        return _one_of(self._splits, split)

    def augmentation(self) -> CropAugmentation:
        """A random part of the face, perhaps mirrored; then RandAugment's operations."""
        size, area, ops = self.config.data.input_size, self.config.min_crop_area, self.config.randaugment_ops
        return CropAugmentation(size, min_crop_area=area, randaugment_ops=ops, cut=self._cut)

    def order(self) -> IdentityBalance:
        """Batches of some persons with some photos each."""
        return IdentityBalance(self.source("train").identity_ids, self.config.photos_per_identity)

    def preprocessing(self) -> Preprocess:
        """The face, scaled."""
        return partial(face_input, cut=self._cut, input_size=self.config.data.input_size)

    def collate(self) -> Collate[Face]:
        """The persons' positions among the training persons."""
        return partial(identity_targets, id_of=self._id_of)

    def loss(
        self, outputs: EmbeddingOutputs, targets: IdentityTargets, world: World = SINGLE_PROCESS
    ) -> dict[str, Tensor]:
        """Margin softmax or triplets."""
        config = self.config
        if config.loss == "triplet":
            return triplet_loss(outputs.embeddings, targets, margin=config.margin, world=world)
        return margin_softmax_loss(outputs, targets, kind=config.loss, margin=config.margin, scale=config.scale)

    def decode(self, outputs: EmbeddingOutputs) -> list[Face]:
        """The embedding of each photo."""
        return decode_faces(outputs)

    def metric(self) -> VerificationMetric:
        """LFW's pairs where there are some, else all pairs."""
        if _has_pairs(self.config):
            self._read_once()
        return VerificationMetric(self.config.fars, self._folds)

    def draw(self, image: Image, predicted: Face, truth: Face | None = None) -> Image:
        """The photo above its embedding."""
        return draw_face(image, predicted, truth)

    def describe(self, predicted: Face, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The embedding."""
        assert predicted.embedding is not None
        return {"embedding": predicted.embedding.astype(np.float64).round(6).tolist()}

    def _read_once(self) -> None:
        if self._splits is None:
            self._splits, self._folds = _read(self.config)


def _has_pairs(config: EmbeddingConfig) -> bool:
    """Whether validation is by LFW's pairs; the sample has some."""
    return config.data.lfw is not None or config.data.root is None


def _read(config: EmbeddingConfig) -> tuple[dict[Split, FaceImages], list[list[Pair]] | None]:
    root = sample_root() if config.data.root is None else Path(config.data.root)
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder {root}")
    if not _has_pairs(config):
        return split_identities(root, val_fraction=config.data.val_fraction), None
    lfw = sample_root() / LFW if config.data.lfw is None else Path(config.data.lfw)
    train = split_identities(root, val_fraction=0)["train"]
    photos, folds = read_lfw(lfw)
    seen = set(train.identities) & set(photos.identities)
    if seen:  # whom a network has seen it knows better
        train = train.without(seen)
        train.warnings.append(f"{len(seen)} persons of {lfw} are among those of {root}; they are not trained on")
    return {"train": train, "val": photos}, folds


def _one_of(splits: Splits, split: Split) -> FaceImages:
    if split not in splits:
        raise ValueError(f"no photo is for {split}: data.root has no such folder, or data.val_fraction leaves none")
    return splits[split]
