"""Start from another model of segmentation: its heads, with the outputs of the classes that are known by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backbone.weights import weight_names
from tasks.common.weights import TaskWeights
from tasks.segmentation.model import SegmentationModel

HEADS = {"decode_head.": "head", "auxiliary_head.": "auxiliary head"}
CLASSIFIER = "classifier"  # in the names of the layers with a row for each class


@torch.no_grad()
def load_heads(network: SegmentationModel, weights: TaskWeights, class_names: Sequence[str]) -> dict[str, int]:
    """Copy a model's heads into another of the same kind, in place; outputs of unknown classes stay as they are.

    Args:
        network: its heads are updated.
        weights: of a model of segmentation.
        class_names: of the network, by class id.

    Returns:
        What was kept: the part, in words, and its number of tensors; nothing of a head of another kind.
    """
    given_names = list(weights.metadata["class_names"])
    rows = {row: given_names.index(name) for row, name in enumerate(class_names) if name in given_names}
    state, kept = network.state_dict(), {}
    for prefix, part in HEADS.items():
        names = [name for name in weight_names(state) if name.startswith(prefix)]
        fits = all(
            name in weights.state and weights.state[name].shape[free:] == state[name].shape[free:]
            for name, free in ((name, int(CLASSIFIER in name)) for name in names)
        )
        if not names or not fits:
            continue
        copied = [name for name in names if rows or CLASSIFIER not in name]
        for name in copied:
            if CLASSIFIER in name:
                state[name][list(rows)] = weights.state[name][list(rows.values())].to(state[name])
            else:
                state[name].copy_(weights.state[name])
        kept[f"the {part} with {len(rows)} of {len(class_names)} classes"] = len(copied)
    return kept
