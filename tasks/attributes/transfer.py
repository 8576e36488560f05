"""Start from another model of attributes: its head, with the outputs of the attributes that are known by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tasks.attributes.model import AgeHead, AttributeNet, other_names
from tasks.common.weights import TaskWeights


@torch.no_grad()
def load_head(network: AttributeNet, weights: TaskWeights, attribute_names: Sequence[str]) -> dict[str, int]:
    """Copy a model's head into another one of the same kind, in place; outputs of unknown attributes stay as they are.

    Args:
        network: its head is updated.
        weights: of a model of attributes.
        attribute_names: of the network, by column.

    Returns:
        What was kept: the part, in words, and its number of tensors; nothing if the heads are of different kinds, or
        no attribute is known.
    """
    names, given_names = list(attribute_names), list(weights.metadata["attribute_names"])
    num_known = sum(name in given_names for name in names)
    state = network.head.state_dict()
    given = {name.removeprefix("head."): tensor for name, tensor in weights.state.items() if name.startswith("head.")}
    by_output = {*list(state)[-2:]}  # kernel and bias of the last layer have a row for each output
    if isinstance(network.head, AgeHead):  # age groups share the softmax
        names, given_names = other_names(names), other_names(given_names)
        by_output = {name for name in state if name.startswith("others.")}
    free = {name: int(name in by_output) for name in state}  # leading dimensions that may differ: the outputs
    fits = all(
        name in given and given[name].shape[free[name] :] == tensor.shape[free[name] :]
        for name, tensor in state.items()
    )
    if not fits or not num_known:
        return {}
    rows = {row: given_names.index(name) for row, name in enumerate(names) if name in given_names}
    kept = {name: tensor for name, tensor in state.items() if rows or name not in by_output}
    for name, tensor in kept.items():
        if name in by_output:
            tensor[list(rows)] = given[name][list(rows.values())].to(tensor)
        else:
            tensor.copy_(given[name])
    return {f"the head with {num_known} of {len(attribute_names)} attributes": len(kept)}
