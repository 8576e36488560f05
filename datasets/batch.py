"""Batches of examples, for a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from datasets.types import Unreadable

T = TypeVar("T")


@dataclass(frozen=True)
class Batch(Generic[T]):
    """Examples of equal image size.

    Attributes:
        images: uint8 RGB (N, 3, H, W), channels last in memory; the network normalises them.
        truth: N truths, for metrics and drawing; empty in training.
        targets: a NamedTuple of tensors, for the loss; None outside training.
        rows: N indices in the data set.
        unreadable: the examples that were left out or replaced, because they could not be read or are empty.
    """

    images: Tensor
    truth: list[T]
    targets: Any
    rows: list[int]
    unreadable: list[Unreadable]

    def __len__(self) -> int:
        return len(self.rows)

    def pin_memory(self) -> Batch[T]:
        """The batch in page-locked memory; called by torch's DataLoader."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch[T]:
        """The batch with images and targets on a device, copied asynchronously from pinned memory."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch[T]:
        return replace(self, images=function(self.images), targets=map_tensors(function, self.targets))


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a function to each tensor of a (nested) NamedTuple; other values are unchanged."""
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(*(map_tensors(function, part) for part in value)) if isinstance(value, tuple) else value
