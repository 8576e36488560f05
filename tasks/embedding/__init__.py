"""Whose face is it: embeddings that put photos of one person near each other."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from tasks.embedding.config import EmbeddingConfig
    from tasks.embedding.model import EmbeddingOutputs, FaceNet
    from tasks.embedding.task import EmbeddingTask

__all__ = ["EmbeddingConfig", "EmbeddingOutputs", "EmbeddingTask", "FaceNet"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["EmbeddingConfig"],
        "model": ["EmbeddingOutputs", "FaceNet"],
        "task": ["EmbeddingTask"],
    },
)
