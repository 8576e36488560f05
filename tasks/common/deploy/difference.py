"""How far the outputs of an exported network are from the original's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MIN_SHARED = 0.9  # of what a network chooses by its score, when it is computed again
MAX_DIFFERENCE = 1e-3  # of an output in float32, relative to its largest absolute value


def random_images(input_size: int) -> Tensor:
    """Three images of random pixels, always the same, (3, 3, S, S)."""
    shape = (3, 3, input_size, input_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def largest_difference(
    network: nn.Module,
    exported: nn.Module,
    images: Tensor,
    *,
    title: str = "the ONNX file",
    advice: str = "update torch and onnxruntime",
) -> float:
    """The largest absolute difference of an output, relative to the output's largest absolute value.

    Args:
        network: on the CPU; run in float32, without TF32. If its outputs have a method `order`, that brings the other
            outputs into the same order.
        exported: the same network from a file.
        images: uint8 RGB (N, 3, S, S).
        title: of the file, for the error.
        advice: likewise.

    Raises:
        ValueError: if an output differs by more than `MAX_DIFFERENCE`.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        expected, actual = network(images), exported(images)
    finally:
        torch.set_float32_matmul_precision(precision)
    if hasattr(expected, "order"):
        actual = expected.order(actual)
    largest = 0.0
    for name, a, b in zip(expected._fields, expected, actual, strict=True):
        if not a.numel():
            continue
        a, b = a.double(), b.double()
        difference = float((a - b).abs().max() / a.abs().max().clamp(min=torch.finfo(a.dtype).tiny))
        if not difference <= MAX_DIFFERENCE:  # also catches NaN
            raise ValueError(
                f"export: {name} of {title} differs from PyTorch's by {difference:.1e} of its largest value, "
                f"expected at most {MAX_DIFFERENCE:.0e}; {advice}, or use the run without exporting"
            )
        largest = max(largest, difference)
    return largest


def in_order_of(expected: Any, actual: Any, key: str, fields: Sequence[str], max_distance: float) -> Any:
    """Raw outputs that were computed again, with what was chosen by its score in the order of the first time.

    Rounding decides which of two comes first where their scores are nearly the same, and which is chosen where both are
    nearly good enough. So up to a tenth may be missing, and is taken from the first time; if more is, all stays as it
    is.

    Args:
        expected: a NamedTuple.
        actual: likewise.
        key: the field that tells what is the same, (N, R) or (N, R, D).
        fields: those with values for each of what was chosen, (N, R, ...).
        max_distance: between the keys of what is the same, in each of their values.
    """
    first, again = (getattr(outputs, key).double() for outputs in (expected, actual))
    if first.dim() == 2:
        first, again = first[..., None], again[..., None]
    distances, rows = torch.cdist(first, again, p=torch.inf).min(2)
    is_shared = distances <= max_distance
    if is_shared.float().mean() < MIN_SHARED:
        return actual
    ordered = {name: getattr(actual, name)[torch.arange(len(rows))[:, None], rows] for name in fields}
    for name, values in ordered.items():
        values[~is_shared] = getattr(expected, name)[~is_shared]
    return actual._replace(**ordered)
