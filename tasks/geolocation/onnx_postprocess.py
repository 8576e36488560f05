"""The postprocessing of PlaNet as an ONNX graph: what `decode_cells` computes by tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.common.deploy.postprocessing import parse_graph
from tasks.geolocation.cells import Partitioning, coarse_cell_ids

if TYPE_CHECKING:
    from onnx import GraphProto


def cell_probabilities(partitionings: Sequence[Partitioning], *, combine: bool) -> GraphProto:
    """Logits of the cells of all partitionings, coarse to fine -> probabilities (N, cells) of the finest, see there."""
    sizes = list(map(len, partitionings))
    parts = [f"logits_{index}" for index in range(len(sizes))]
    lines = [f"{', '.join(parts)} = Split <axis = 1> (logits, sizes)", f"log_p_0 = LogSoftmax ({parts[-1]})"]
    constants: dict[str, Any] = {"sizes": np.array(sizes)}
    result = "log_p_0"
    for index, coarse in enumerate(partitionings[:-1] if combine else ()):
        coarse_ids = coarse_cell_ids(partitionings[-1], coarse)
        # A fine cell that is in no coarse cell gets the smallest coarse probability.
        constants |= {f"ids_{index}": np.maximum(coarse_ids, 0), f"is_inside_{index}": coarse_ids >= 0}
        lines += [
            f"coarse_{index} = LogSoftmax ({parts[index]})",
            f"of_fine_{index} = Gather <axis = 1> (coarse_{index}, ids_{index})",
            f"smallest_{index} = ReduceMin (coarse_{index}, last_axis)",
            f"factor_{index} = Where (is_inside_{index}, of_fine_{index}, smallest_{index})",
            f"product_{index} = Add ({result}, factor_{index})",
        ]
        result = f"product_{index}"
    lines.append(f"probabilities = Softmax ({result})")
    body = "\n".join(lines)
    text = f"cells (float[N, L] logits) => (float[N, C] probabilities) {{ {body} }}"
    return parse_graph(text, last_axis=np.array([1]), **constants)
