"""Start from another model of segmentation: its heads, with the outputs of the classes that are known by name."""

from __future__ import annotations

from collections.abc import Sequence

from backbone.weights import weight_names
from tasks.common.weights import TaskWeights, copy_part, rows_by_name
from tasks.segmentation.model import SegmentationModel

HEADS = {"decode_head.": "head", "auxiliary_head.": "auxiliary head"}
CLASSIFIER = "classifier"  # in the names of the layers with a row for each class


def load_heads(network: SegmentationModel, weights: TaskWeights, class_names: Sequence[str]) -> dict[str, int]:
    """Copy a model's heads into another of the same kind, in place; outputs of unknown classes stay as they are.

    Args:
        network: its heads are updated.
        weights: of a model of segmentation.
        class_names: of the network, by class id.

    Returns:
        What was kept: the part, in words, and its number of tensors; nothing of a head of another kind.
    """
    given_names = weights.metadata["class_names"]
    rows = rows_by_name(class_names, given_names)
    state, kept = network.state_dict(), {}
    for prefix, part in HEADS.items():
        head = {name: state[name] for name in weight_names(state) if name.startswith(prefix)}
        by_class = [name for name in head if CLASSIFIER in name]
        for name in sorted(weights.state.keys() & by_class):
            weights.check_rows(name, len(weights.state[name]), given_names)
        copied = copy_part(head, weights.state, rows, by_class)
        if copied:
            kept[f"the {part} with {len(rows)} of {len(class_names)} classes"] = len(copied)
    return kept
