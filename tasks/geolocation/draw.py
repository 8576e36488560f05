"""The photo beside the map of its probable cells, and the share of photos within every distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.sphere import Floats, distance_km
from datasets.types import Image, Place
from tasks.common.drawing.draw import put_label
from tasks.common.drawing.plot import new_plot
from tasks.geolocation.map import CellMap, length_text
from tasks.geolocation.regions import Region

WHITE = (255, 255, 255)
MAX_PHOTO_WIDTH_PX, GAP_PX = 480, 4
NUM_NAMED = 3


def draw_place(image: Image, predicted: Place, truth: Place | None, cell_map: CellMap) -> Image:
    """The photo, and beside it a map with each cell's probability; the predicted place is a cross, the true one a dot.

    Args:
        image: the photo.
        predicted: where it is thought to be.
        truth: where it is, if that is known.
        cell_map: of the model's cells.
    """
    beside = cell_map.draw(predicted.probabilities)
    cell_map.put_guess(beside, predicted.lat_deg, predicted.lng_deg)
    if truth is not None:
        cell_map.put_truth(beside, truth.lat_deg, truth.lng_deg)
        away_km = float(distance_km(predicted.lat_deg, predicted.lng_deg, truth.lat_deg, truth.lng_deg))
        put_label(beside, f"{length_text(away_km)} away", 4, 4, WHITE)
    return _side_by_side(image, beside)


def draw_regions(image: Image, drawn_map: Image, regions: Sequence[Region]) -> Image:
    """The photo beside a map that shows no more than the regions, and their names, the most probable first."""
    for number, region in enumerate(regions[:NUM_NAMED]):
        put_label(drawn_map, f"{region.name} {100 * region.probability:.0f}%", 4, 4 + 18 * number, WHITE)
    return _side_by_side(image, drawn_map)


def _side_by_side(image: Image, beside: Image) -> Image:
    scale = min(len(beside) / len(image), MAX_PHOTO_WIDTH_PX / image.shape[1])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    photo = cv2.resize(image, size, interpolation=interpolation)
    canvas = np.full((len(beside), size[0] + GAP_PX + beside.shape[1], 3), 255, np.uint8)
    top = (len(beside) - size[1]) // 2
    canvas[top : top + size[1], : size[0]] = photo
    canvas[:, size[0] + GAP_PX :] = beside
    return canvas


def draw_distances(distances_km: Floats, baseline: Mapping[float, float], path: Path) -> None:
    """The share of photos within every distance, and what the best constant guess reaches at some.

    Args:
        distances_km: (N,) from prediction to truth.
        baseline: threshold in km -> share of the best constant guess.
        path: of the picture.
    """
    with new_plot(path, 8, 5) as figure:
        axes = figure.subplots()
        ordered = np.sort(distances_km)
        smallest = min(baseline) / 10
        axes.step(np.maximum(ordered, smallest), np.arange(1, len(ordered) + 1) / max(1, len(ordered)), where="post")
        axes.plot(list(baseline), list(baseline.values()), "o:", color="grey", label="best constant guess")
        for threshold_km in baseline:
            share = float((ordered <= threshold_km).mean()) if len(ordered) else 0.0
            axes.annotate(f"{share:.2f}", (threshold_km, share), textcoords="offset points", xytext=(-4, 6), ha="right")
        axes.set_xscale("log")
        axes.set(xlabel="distance, km", ylabel="share of photos within it", ylim=(0, 1.02), xlim=(smallest, None))
        axes.grid(alpha=0.3)
        axes.legend()
