"""FaceNet on a MobileNet: pooled features to an embedding of length 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.base import Backbone, global_average_pool
from datasets.types import Face
from tasks.embedding.inception_resnet import InceptionResnetV1


class EmbeddingOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        embeddings: (N, D), of length 1.
        prototypes: (C, D), class prototypes of the training identities, not normalised, for a margin softmax; (0, D)
            for a triplet loss.
    """

    embeddings: Tensor
    prototypes: Tensor


class EmbeddingHead(nn.Module):
    """A linear layer with batch normalisation, and a class prototype for each training identity."""

    def __init__(self, num_features: int, embedding_dim: int | None, num_prototypes: int) -> None:
        """Args: num_features: of the backbone; embedding_dim: D, None for no projection; num_prototypes: C."""
        super().__init__()
        self.embedding_dim = embedding_dim or num_features
        self.projection = (
            nn.Identity()
            if embedding_dim is None
            else nn.Sequential(nn.Linear(num_features, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim))
        )
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, self.embedding_dim)) if num_prototypes else None

    def forward(self, features: Tensor) -> EmbeddingOutputs:
        """Pooled features (N, num_features) -> embeddings."""
        embeddings = functional.normalize(self.projection(features))
        prototypes = embeddings.new_zeros(0, self.embedding_dim) if self.prototypes is None else self.prototypes
        return EmbeddingOutputs(embeddings, prototypes)


class FaceNet(nn.Module):
    """A backbone and an embedding head on its pooled features."""

    def __init__(self, backbone: Backbone | InceptionResnetV1, embedding_dim: int | None, num_prototypes: int) -> None:
        """Args: backbone: feature extractor; embedding_dim, num_prototypes: see `EmbeddingHead`."""
        super().__init__()
        self.backbone = backbone
        self.head = EmbeddingHead(backbone.num_features, embedding_dim, num_prototypes)

    def drop_training_parts(self) -> None:
        """Remove the class prototypes, which only the loss uses."""
        self.head.prototypes = None

    def forward(self, images: Tensor) -> EmbeddingOutputs:
        """uint8 RGB (N, 3, S, S) -> embeddings."""
        return self.from_features(self.backbone(images))

    def from_feature_maps(self, maps: Mapping[int, Tensor]) -> EmbeddingOutputs:
        """The backbone's maps by stride -> embeddings."""
        return self.from_features(global_average_pool(maps))

    def from_features(self, features: Tensor) -> EmbeddingOutputs:
        """Pooled features (N, num_features) -> embeddings."""
        outputs: EmbeddingOutputs = self.head(features)
        return outputs


class EmbeddingWrapper(nn.Module):
    """An external network whose output is an embedding of any dimension."""

    def __init__(self, network: nn.Module) -> None:
        """Args: network: images -> (N, D)."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> EmbeddingOutputs:
        """uint8 RGB (N, 3, S, S) -> embeddings (N, D) of length 1."""
        embeddings = functional.normalize(self.network(images))
        return EmbeddingOutputs(embeddings, embeddings.new_zeros(0, embeddings.shape[1]))


def decode_faces(outputs: EmbeddingOutputs) -> list[Face]:
    """The embedding of each photo."""
    return [Face(embedding=row) for row in outputs.embeddings.cpu().numpy()]
