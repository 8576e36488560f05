"""The rows of a compression study: a network, and perhaps its precision, as in `pruned+distilled+int8`."""

from __future__ import annotations

TEACHER, RANDOM, PRETRAINED, DISTILLED, PRUNED = "teacher", "random", "pretrained", "distilled", "pruned"
TICKETS = {f"ticket_{sparsity:g}": sparsity for sparsity in (0.5, 0.8, 0.9)}  # name: fraction of zeros
NETWORKS = {
    TEACHER: "the large network",
    RANDOM: "the student from random weights",
    PRETRAINED: "the student from --pretrained",
    DISTILLED: "the same, taught by the teacher",
    PRUNED: "the teacher with the student's mult-adds, trained again",
    f"{PRUNED}+{DISTILLED}": "the same, taught by the teacher",
    **{
        name: f"`{PRETRAINED}` without the {sparsity:.0%} smallest weights, trained again from its start"
        for name, sparsity in TICKETS.items()
    },
}
PRECISIONS = {"int8": "in 8 bits", "qat": "in 8 bits, after training for them"}
ROWS = tuple(f"{network}{end}" for network in NETWORKS for end in ("", *(f"+{name}" for name in PRECISIONS)))
DEFAULT_ROWS = (
    *NETWORKS,
    *("pretrained+int8", "pretrained+qat", "distilled+int8", "pruned+int8", "pruned+distilled+int8"),
)
RUNTIMES = ("torch", "onnx", "openvino", "litert", "executorch")
DEFAULT_RUNTIMES = RUNTIMES[:2]


def origin_of(row: str) -> str:
    """The row that the networks of a row are made of; empty if they are trained from weights."""
    network = network_of(row)
    if network in TICKETS:
        return PRETRAINED
    return TEACHER if network.startswith(PRUNED) or network.endswith(DISTILLED) else ""


def precision_of(row: str) -> str:
    """The precision of a row, from `PRECISIONS`; empty for float32."""
    last = row.rpartition("+")[2]
    return last if last in PRECISIONS else ""


def network_of(row: str) -> str:
    """The row without its precision."""
    return row.removesuffix(f"+{precision_of(row)}")
