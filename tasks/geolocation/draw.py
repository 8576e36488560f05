"""Pictures: a photo beside a map of its probable cells, and the distribution of the distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.drawing.draw import GAP_PX, WHITE, join_panel, label_size, pad, put_label, rescale, shorten
from datasets.drawing.plot import add_legend_below, format_log_axis, new_plot
from datasets.geolocation.sphere import Floats, distance_km
from datasets.types import Image, Place
from tasks.geolocation.map import LAND, PART_HEIGHT_PX, CellMap, format_length, put_cross, put_dot, shade
from tasks.geolocation.regions import Region

NUM_LINES = 3  # of a legend
TEXT_PX, LINE_PX, SYMBOL_PX = 16, 26, 28
Symbol = Callable[[Image, tuple[int, int]], None]  # draws itself at a centre


def draw_cells(image: Image, predicted: Place, truth: Place | None, cell_map: CellMap) -> Image:
    """The photo beside a map with each cell's probability, a cross at the prediction and a dot at the truth.

    Args:
        image: the photo.
        predicted: the prediction.
        truth: None if it is unknown.
        cell_map: map of the model's cells.
    """
    assert predicted.probabilities is not None
    places = [place for place in (predicted, truth) if place is not None]
    part = cell_map.part(predicted.probabilities, [(place.lat_deg, place.lng_deg) for place in places])
    drawn_map = part.draw(predicted.probabilities)
    legend: list[tuple[Symbol, str]] = [(put_cross, "prediction")]
    if truth is not None:
        part.put_truth(drawn_map, truth.lat_deg, truth.lng_deg)
        error_km = float(distance_km(predicted.lat_deg, predicted.lng_deg, truth.lat_deg, truth.lng_deg))
        legend.append((put_dot, f"truth, {format_length(error_km)} away"))
    part.put_prediction(drawn_map, predicted.lat_deg, predicted.lng_deg)  # on top of a truth that it hits
    legend.append((_put_scale, f"probability of a cell, 0 to {predicted.probabilities.max():.2f}"))
    overview = _draw_overview(cell_map, part, predicted.probabilities)
    return _compose(image, drawn_map, legend, overview, cell_map.window.height_px)


def draw_regions(
    image: Image, probabilities: NDArray[np.float32], regions: Sequence[Region], cell_map: CellMap
) -> Image:
    """The photo beside a map of the regions only, and their names, the most probable first.

    Args:
        image: the photo.
        probabilities: (cells,), of each cell's region.
        regions: the most probable ones.
        cell_map: map of the model's cells.
    """
    part = cell_map.part(probabilities)
    legend: list[tuple[Symbol, str]] = [
        (
            partial(_put_shade, heat=(region.probability / regions[0].probability) ** 0.5),
            f"{region.name.replace('_', ' ')} {region.probability:.2f}",
        )
        for region in regions[:NUM_LINES]
    ]
    overview = _draw_overview(cell_map, part, probabilities)
    return _compose(image, part.draw(probabilities), legend, overview, cell_map.window.height_px)


def _draw_overview(cell_map: CellMap, part: CellMap, probabilities: NDArray[np.float32]) -> Image | None:
    """The whole map, small, with a frame around the part; None if the part is the whole map."""
    if part is cell_map:
        return None
    overview = cell_map.draw(probabilities, has_scale_bar=False)
    cell_map.put_frame(overview, part.window)
    return rescale(overview, NUM_LINES * LINE_PX / len(overview))


def _compose(
    image: Image, drawn_map: Image, legend: Sequence[tuple[Symbol, str]], overview: Image | None, whole_height_px: int
) -> Image:
    """The photo beside the map, which has its legend and the overview below it.

    The size is the same whether a part of the map is shown or the whole, as the frames of a video must be.
    """
    strip = np.full((NUM_LINES * LINE_PX + 2 * GAP_PX, drawn_map.shape[1], 3), 255, np.uint8)
    room = strip.shape[1] - (0 if overview is None else overview.shape[1])
    for line, (put_symbol, text) in enumerate(legend):
        middle = GAP_PX + LINE_PX * line + LINE_PX // 2
        put_symbol(strip, (SYMBOL_PX // 2, middle))
        text = shorten(text, room - SYMBOL_PX, TEXT_PX)
        put_label(strip, text, SYMBOL_PX, middle - label_size(text, TEXT_PX)[1] // 2, WHITE, TEXT_PX)
    if overview is not None:
        strip[GAP_PX : GAP_PX + len(overview), -overview.shape[1] :] = overview
    panel = np.concatenate([drawn_map, strip])
    return join_panel(image, pad(panel, max(whole_height_px, PART_HEIGHT_PX) + len(strip), panel.shape[1]))


def _put_shade(picture: Image, centre: tuple[int, int], *, heat: float) -> None:
    """The colour of a probability."""
    _swatch(picture, centre)[:] = shade(np.array(LAND, np.uint8), np.array(heat))


def _put_scale(picture: Image, centre: tuple[int, int]) -> None:
    """The colours of all probabilities."""
    swatch = _swatch(picture, centre)
    swatch[:] = shade(np.array(LAND, np.uint8), np.sqrt(np.linspace(0, 1, swatch.shape[1])))


def _swatch(picture: Image, centre: tuple[int, int]) -> Image:
    x, y = centre
    return picture[y - 6 : y + 7, x - 10 : x + 11]


def draw_distances(distances_km: Floats, baseline: Mapping[float, float], path: Path) -> None:
    """The fraction of photos within every distance, and that of the best constant prediction at the thresholds.

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
        axes.step(np.maximum(ordered, smallest), fractions, where="post", label="prediction")
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
