"""Pictures: a photo beside a map of its probable cells, and the distribution of the distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.sphere import Floats, distance_km
from datasets.types import Image, Place
from tasks.common.drawing.draw import put_label
from tasks.common.drawing.plot import add_legend_below, format_log_axis, new_plot
from tasks.geolocation.map import CellMap, format_length
from tasks.geolocation.regions import Region

WHITE = (255, 255, 255)
MAX_PHOTO_WIDTH_PX, GAP_PX = 480, 4
NUM_NAMED = 3


def draw_cells(image: Image, predicted: Place, truth: Place | None, cell_map: CellMap) -> Image:
    """The photo beside a map with each cell's probability, a cross at the prediction and a dot at the truth.

    Args:
        image: the photo.
        predicted: the prediction.
        truth: None if it is unknown.
        cell_map: map of the model's cells.
    """
    drawn_map = cell_map.draw(predicted.probabilities)
    cell_map.put_prediction(drawn_map, predicted.lat_deg, predicted.lng_deg)
    if truth is not None:
        cell_map.put_truth(drawn_map, truth.lat_deg, truth.lng_deg)
        error_km = float(distance_km(predicted.lat_deg, predicted.lng_deg, truth.lat_deg, truth.lng_deg))
        put_label(drawn_map, f"{format_length(error_km)} away", 4, 4, WHITE)
    return _side_by_side(image, drawn_map)


def draw_regions(image: Image, drawn_map: Image, regions: Sequence[Region]) -> Image:
    """The photo beside a map of the regions only, and their names, the most probable first."""
    for line, region in enumerate(regions[:NUM_NAMED]):
        put_label(drawn_map, f"{region.name} {100 * region.probability:.0f}%", 4, 4 + 18 * line, WHITE)
    return _side_by_side(image, drawn_map)


def _side_by_side(image: Image, drawn_map: Image) -> Image:
    scale = min(len(drawn_map) / len(image), MAX_PHOTO_WIDTH_PX / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    photo = cv2.resize(image, size, interpolation=interpolation)
    canvas = np.full((len(drawn_map), size[0] + GAP_PX + drawn_map.shape[1], 3), 255, np.uint8)
    top = (len(drawn_map) - size[1]) // 2
    canvas[top : top + size[1], : size[0]] = photo
    canvas[:, size[0] + GAP_PX :] = drawn_map
    return canvas


def draw_distances(distances_km: Floats, baseline: Mapping[float, float], path: Path) -> None:
    """The fraction of photos within every distance, and that of the best constant prediction at some thresholds.

    Args:
        distances_km: (N,), from prediction to truth.
        baseline: threshold in km -> fraction of the best constant prediction.
        path: of the picture.
    """
    with new_plot(path, 8, 5) as figure:
        axes = figure.subplots()
        ordered = np.sort(distances_km)
        smallest = min(baseline) / 10
        fractions = np.arange(1, len(ordered) + 1) / max(1, len(ordered))
        axes.step(np.maximum(ordered, smallest), fractions, where="post", label="model")
        axes.plot(list(baseline), list(baseline.values()), "o:", color="grey", label="best constant prediction")
        for threshold_km in baseline:
            fraction = float((ordered <= threshold_km).mean()) if len(ordered) else 0.0
            point = (threshold_km, fraction)
            axes.annotate(f"{fraction:.2f}", point, textcoords="offset points", xytext=(-4, 6), ha="right")
        axes.set_xscale("log")
        axes.set(xlabel="distance from prediction to truth, km", ylabel="fraction of photos within this distance")
        axes.set(ylim=(0, 1.02), xlim=(smallest, None))
        format_log_axis(axes.xaxis)
        axes.grid(alpha=0.3)
        add_legend_below(figure, 2)
