"""The postprocessing of both methods as ONNX graphs: what `decode_cells` and `decode_neighbours` compute by tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.geolocation.sphere import Floats
from tasks.common.deploy.postprocessing import parse_graph
from tasks.geolocation.cells import Partitioning, coarse_cell_ids
from tasks.geolocation.places import TEMPERATURE

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


def neighbour_probabilities(lat_lng_deg: Floats, partitioning: Partitioning) -> GraphProto:
    """Neighbours as `Im2GPS` finds them -> their weights and coordinates, behind the probabilities (N, cells).

    See `places_of_neighbours`.

    Args:
        lat_lng_deg: coordinates of the gallery (M, 2).
        partitioning: the cells.
    """
    cell_ids = partitioning.find(*lat_lng_deg.T)
    num_cells = len(partitioning)
    text = f"""neighbours (float[N, K] similarities, int64[N, K] rows, double[N, K] lat_deg, double[N, K] lng_deg)
        => (float[N, {num_cells}] probabilities,
            float[N, K] neighbour_weights, double[N, K] neighbour_lat_deg, double[N, K] neighbour_lng_deg)
    {{
        scaled = Div (similarities, temperature)
        neighbour_weights = Softmax (scaled)
        cell_ids = Gather (all_cell_ids, rows)
        num_images = Shape <start = 0, end = 1> (rows)
        shape = Concat <axis = 0> (num_images, num_columns)
        zeros = ConstantOfShape (shape)
        sums = ScatterElements <axis = 1, reduction = "add"> (zeros, cell_ids, neighbour_weights)
        probabilities = Slice (sums, start, end, axis)
        neighbour_lat_deg = Identity (lat_deg)
        neighbour_lng_deg = Identity (lng_deg)
    }}"""
    return parse_graph(
        text,
        temperature=TEMPERATURE,
        all_cell_ids=np.where(cell_ids < 0, num_cells, cell_ids),  # photos in no cell are in one more, which is cut off
        num_columns=np.array([num_cells + 1]),
        start=np.array([0]),
        end=np.array([num_cells]),
        axis=np.array([1]),
    )
