"""The rows of a compression study: a network, and perhaps its precision, as in `pruned+distilled+int8`."""

from __future__ import annotations

TEACHER, RANDOM, PRETRAINED, DISTILLED, PRUNED = "teacher", "random", "pretrained", "distilled", "pruned"
NETWORKS = {
    TEACHER: "the large network",
    RANDOM: "the student from random weights",
    PRETRAINED: "the student from --pretrained",
    DISTILLED: "the same, taught by the teacher",
    PRUNED: "the teacher with the student's mult-adds, trained again",
    f"{PRUNED}+{DISTILLED}": "the same, taught by the teacher",
}
WITHOUT_TEACHER = (RANDOM, PRETRAINED)
PRECISIONS = {"int8": "in 8 bits", "qat": "in 8 bits, after training for them"}
ROWS = tuple(f"{network}{end}" for network in NETWORKS for end in ("", *(f"+{name}" for name in PRECISIONS)))
DEFAULT_ROWS = (
    *NETWORKS,
    *("pretrained+int8", "pretrained+qat", "distilled+int8", "pruned+int8", "pruned+distilled+int8"),
)


def precision_of(row: str) -> str:
    """The precision of a row, from `PRECISIONS`; empty for float32."""
    last = row.rpartition("+")[2]
    return last if last in PRECISIONS else ""


def network_of(row: str) -> str:
    """The row without its precision."""
    return row.removesuffix(f"+{precision_of(row)}")
