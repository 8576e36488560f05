"""Start from another model of embeddings: its projection, and the prototypes of the identities known by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backbone.weights import weight_names
from tasks.common.weights import TaskWeights
from tasks.embedding.model import FaceNet

PROTOTYPES = "head.prototypes"


@torch.no_grad()
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
    if given != projection.keys() or any(weights.state[name].shape != projection[name].shape for name in given):
        return {}
    for name, tensor in projection.items():
        tensor.copy_(weights.state[name])
    if projection:
        kept["the projection"] = len(weight_names(projection))
    row_of = {name: row for row, name in enumerate(weights.metadata["identities"])}
    rows = {row: row_of[name] for row, name in enumerate(identities) if name in row_of}
    if rows and PROTOTYPES in state and PROTOTYPES in weights.state:
        state[PROTOTYPES][list(rows)] = weights.state[PROTOTYPES][list(rows.values())].to(state[PROTOTYPES])
        kept[f"the prototypes of {len(rows)} of {len(identities)} identities"] = 1
    return kept
