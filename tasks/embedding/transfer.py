"""Start from another model of embeddings: its projection, and the prototypes of the identities known by name."""

from __future__ import annotations

from collections.abc import Sequence

from backbone.weights import weight_names
from tasks.common.weights import TaskWeights, copy_part, rows_by_name
from tasks.embedding.model import FaceNet

PROTOTYPES = "head.prototypes"


def load_head(network: FaceNet, weights: TaskWeights, identities: Sequence[str]) -> dict[str, int]:
    """Copy a model's projection and prototypes into another network where they fit, in place.

    Args:
        network: its head is updated.
        weights: of a model of embeddings.
        identities: of the network's prototypes.

    Returns:
        What was kept: the part, in words, and its number of tensors.
    """
    kept, state = {}, network.state_dict()
    projection = {name: tensor for name, tensor in state.items() if name.startswith("head.projection.")}
    given = {name for name in weights.state if name.startswith("head.projection.")}
    if given != projection.keys():
        return {}
    if projection:
        if not copy_part(projection, weights.state, {}, ()):
            return {}
        kept["the projection"] = len(weight_names(projection))
    rows = rows_by_name(identities, weights.metadata["identities"])
    prototypes = {name: tensor for name, tensor in state.items() if name == PROTOTYPES}
    if copy_part(prototypes, weights.state, rows, prototypes):
        kept[f"the prototypes of {len(rows)} of {len(identities)} identities"] = 1
    return kept
