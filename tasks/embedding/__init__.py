"""Whose face is it: embeddings that put photos of one person near each other."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from tasks.embedding.config import EmbeddingConfig
    from tasks.embedding.task import EmbeddingTask

__all__ = ["EmbeddingConfig", "EmbeddingTask"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"config": ["EmbeddingConfig"], "task": ["EmbeddingTask"]}
)
