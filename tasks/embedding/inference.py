"""Embedding without a network: data, metric, pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.faces import FaceImages, Pair, open_faces, read_lfw
from datasets.sample.embedding import LFW, sample_root
from datasets.shards.find import open_root
from datasets.splits import Holdout, SplitData
from datasets.types import Face, Image, Split
from datasets.words import plural
from tasks.common.agreement import Agreement
from tasks.common.face_inference import FaceInference
from tasks.embedding.config import EmbeddingConfig
from tasks.embedding.draw import draw_face
from tasks.embedding.metric import VerificationMetric, stack_embeddings


class EmbeddingInference(FaceInference[Face]):
    """Faces as unit vectors."""

    name = "embedding"
    metadata_keys = ("identities",)
    score_name: str

    def __init__(self, config: EmbeddingConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: the training `identities`, none for published weights; perhaps `onnx`."""
        super().__init__(config, metadata)
        self.score_name = "lfw_accuracy" if _has_pairs(config) else "auc"

    def _open_data(self) -> SplitData[FaceImages]:
        return open_data(self.config)

    def source(self, split: Split) -> FaceImages:
        """The photos of a split.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if they cannot be read.
        """
        source: FaceImages = self.data[split]
        source.decoding = self.decoding
        return source

    def read_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> list[Face]:
        """The embedding of each photo."""
        return [Face(embedding=row) for row in outputs["embedding"]]

    def agreement(self, reference: Sequence[Face], predicted: Sequence[Face]) -> Agreement:
        """The mean cosine of a photo's two embeddings."""
        p, q = stack_embeddings(reference), stack_embeddings(predicted)
        return Agreement(float((p * q).sum(1).mean()), None)

    def metric(self) -> VerificationMetric:
        """Verification on LFW's pairs if there are any, else on all pairs."""
        return VerificationMetric(self.config.fars, self._folds)

    @cached_property
    def _folds(self) -> list[list[Pair]] | None:
        return read_lfw(_lfw_folder(self.config))[1] if _has_pairs(self.config) else None

    def draw(self, image: Image, predicted: Face, truth: Face | None = None) -> Image:
        """The photo above its embedding."""
        return draw_face(image, predicted, truth)

    def describe(self, predicted: Face, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The embedding."""
        assert predicted.embedding is not None
        return {"embedding": predicted.embedding.astype(np.float64).round(6).tolist()}

    def summarize(self, predicted: Sequence[Face]) -> str:
        """How many faces were found; without a face detector, the size of the embedding."""
        if self.face_crop.detector is None:
            (only,) = predicted
            assert only.embedding is not None
            return f"embedding of {len(only.embedding)} dimensions"
        return plural(len(predicted), "face") if predicted else "no face found"

    def table(self, predicted: Sequence[Face]) -> dict[str, NDArray[Any]]:
        """A row for each face, with its embedding in one column."""
        embeddings = np.empty(len(predicted), object)
        for row, face in enumerate(predicted):
            embeddings[row] = face.embedding
        return {"embedding": embeddings}


def _has_pairs(config: EmbeddingConfig) -> bool:
    """Whether validation uses LFW's pairs; the generated sample has some."""
    return config.data.lfw is not None or (config.data.root is None and config.data.fold is None)


def open_data(config: EmbeddingConfig) -> SplitData[FaceImages]:
    """The configured data."""
    root = sample_root() if config.data.root is None else open_root(config.data.root)
    if not _has_pairs(config):
        return open_faces(root, Holdout.from_settings(config.data.val_fraction, config.data.fold))
    faces = open_faces(root)
    lfw = _lfw_folder(config)
    photos, folds = read_lfw(lfw)

    def train() -> FaceImages:
        source = faces["train"]
        shared = set(source.identities) & set(photos.identities)
        if not shared:
            return source
        source = source.without(shared)  # training on them would inflate the validation scores
        source.warnings.append(f"{len(shared)} identities of {lfw} are also in {faces.root}; they are not trained on")
        return source

    found = f"{faces.found}; val and test are the {sum(map(len, folds))} pairs of {lfw}"
    return SplitData(faces.root, found, {"train": train, "val": lambda: photos, "test": lambda: photos})


def _lfw_folder(config: EmbeddingConfig) -> Path:
    return sample_root() / LFW if config.data.lfw is None else Path(config.data.lfw)
