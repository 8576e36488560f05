"""Start from another model of attributes: its head, with the outputs of the attributes that are known by name."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.attributes.model import AgeHead, AttributeNet, other_names
from tasks.common.weights import TaskWeights, copy_part, rows_by_name


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
    num_known = len(rows_by_name(names, given_names))
    if not num_known:
        return {}
    state = network.head.state_dict()
    given = {name.removeprefix("head."): tensor for name, tensor in weights.state.items() if name.startswith("head.")}
    by_output = {*list(state)[-2:]}  # kernel and bias of the last layer have a row for each output
    if isinstance(network.head, AgeHead):  # age groups share the softmax
        names, given_names = other_names(names), other_names(given_names)
        by_output = {name for name in state if name.startswith("others.")}
    for name in sorted(by_output & given.keys()):
        weights.check_rows(f"head.{name}", len(given[name]), given_names)
    copied = copy_part(state, given, rows_by_name(names, given_names), by_output)
    return {f"the head with {num_known} of {len(attribute_names)} attributes": len(copied)} if copied else {}
