"""Pictures of a data set: a sheet of examples with their truth, and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.celeba import AttributeImages
from datasets.classification.labelled import LabelledImages
from datasets.detection.annotated import AnnotatedImages
from datasets.drawing.boxes import draw_detections
from datasets.drawing.draw import add_caption, contact_sheet, enlarge
from datasets.drawing.masks import draw_mask
from datasets.drawing.plot import format_log_axis, new_plot
from datasets.geolocation.geotagged import GeotaggedPhotos
from datasets.images.read import UnreadableImageError, write_image
from datasets.segmentation.masked import MaskedImages
from datasets.stores import StoredExamples
from datasets.subsample import evenly_spread
from datasets.tools.counts import Sources, box_sides, count_classes, image_sizes
from datasets.types import Image, Place, Split
from datasets.words import plural

NUM_EXAMPLES, TITLE_PX = 12, 28
MAX_BARS = 20
NUM_BINS = 40
MAX_NAME = 24  # characters of a class's name beside its bar
COLOURS = ("#0072b2", "#e69f00", "#009e73")  # of train, val and test


def draw_examples(sources: Sources, path: Path) -> bool:
    """Draw examples with their truth, evenly spread over the first split; whether one could be read."""
    split, source = next(iter(sources.items()))
    pictures = []
    for row in evenly_spread(len(source), NUM_EXAMPLES).tolist():
        try:
            pictures.append(_draw(source, row))
        except UnreadableImageError:
            continue  # the look has counted it
    if pictures:
        title = f"{plural(len(pictures), 'image')} of {split}, evenly spread"
        write_image(path, add_caption(contact_sheet(pictures), title, size_px=TITLE_PX, is_title=True))
    return bool(pictures)


def _draw(source: StoredExamples[Any], row: int) -> Image:
    image, truth, path = source[row].image, source.truth(row), Path(source.id(row))
    match source:
        case AnnotatedImages():
            caption = f"{path.name}: {plural(len(truth), 'box')}"
            return add_caption(draw_detections(image, truth, None, source.categories.names), caption)
        case MaskedImages():
            return add_caption(draw_mask(image, truth, source.class_names), path.name)
        case LabelledImages():
            text = source.class_names[truth.class_id]
        case AttributeImages():
            present = [name for name, value in zip(source.attribute_names, truth.values, strict=True) if value > 0.5]
            text = ", ".join(present) or "no attribute"
        case GeotaggedPhotos():
            assert isinstance(truth, Place)
            text = f"{truth.lat_deg:.4f}, {truth.lng_deg:.4f}  {path.name}"
        case _:
            text = f"{truth.identity}  {path.name}"
    return add_caption(enlarge(image), text)


def draw_histograms(sources: Sources, path: Path) -> None:
    """Plot how many boxes or images each class has, and the sizes and shapes of boxes or images."""
    parts = {split: source for split, source in sources.items() if isinstance(source, AnnotatedImages)}
    if parts:
        sides = {split: box_sides(source) for split, source in parts.items()}
        image_sides = {split: s.sizes_hw[s.objects.image_rows][:, ::-1] for split, s in parts.items()}
        sizes = {split: 100 * np.sqrt((sides[split] / image_sides[split]).prod(1)) for split in parts}
        size_label = "√(box area / image area), %"
    else:
        sides = {split: image_sizes(source) for split, source in sources.items()}
        sizes = {split: np.sqrt(values.prod(1)) for split, values in sides.items()}
        size_label = "√(width x height), px"
    aspects = {split: values[:, 0] / np.maximum(values[:, 1], 1e-9) for split, values in sides.items()}
    thing = "boxes" if parts else "images"
    rows = count_classes(sources)
    height = max(4.0, 1.2 + 0.24 * min(len(rows), MAX_BARS + 1))
    with new_plot(path, 14, height) as figure:
        classes, size_axes, aspect_axes = figure.subplots(1, 3)
        if rows:
            _plot_classes(classes, rows, thing)
        else:
            _plot_places(classes, sources)
        _plot_histogram(size_axes, sizes, f"sizes of {thing}", size_label, thing)
        _plot_histogram(aspect_axes, aspects, f"shapes of {thing}", "width / height", thing, is_log=True)
        handles, labels = size_axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def _plot_classes(axes: Any, rows: list[dict[str, Any]], thing: str) -> None:
    """Horizontal bars of the largest classes, one above the other for each split."""
    splits = [key for key in rows[0] if key != "name"]
    rows = sorted(rows, key=lambda row: -sum(row[split] for split in splits))
    shown = rows[:MAX_BARS]
    names = [_shorten(row["name"]) for row in shown]
    left = np.zeros(len(shown))
    positions = np.arange(len(shown))
    for split, colour in zip(splits, COLOURS, strict=False):
        values = np.array([row[split] for row in shown])
        axes.barh(positions, values, left=left, color=colour)
        left += values
    axes.set_yticks(positions, names)
    axes.invert_yaxis()
    rest = len(rows) - len(shown)
    title = f"the {len(shown)} largest of {len(rows)} classes" if rest else "classes"
    axes.set(title=title, xlabel=thing)
    axes.grid(axis="x", alpha=0.3)


def _plot_places(axes: Any, sources: Sources) -> None:
    for (_, source), colour in zip(sources.items(), COLOURS, strict=False):
        assert isinstance(source, GeotaggedPhotos)
        axes.plot(source.lng_deg, source.lat_deg, ".", color=colour, markersize=3)
    axes.set(title="places", xlabel="longitude, degrees", ylabel="latitude, degrees")
    axes.grid(alpha=0.3)


def _plot_histogram(
    axes: Any, values_of: Mapping[Split, Any], title: str, xlabel: str, thing: str, *, is_log: bool = False
) -> None:
    """Counts of all splits, one above the other."""
    values = np.concatenate(list(values_of.values()))
    if not len(values):
        axes.set_axis_off()
        return
    low, high = (max(values.min(), 1e-3), max(values.max(), 1e-3)) if is_log else (0.0, values.max())
    if low == high:
        low, high = (low / 2, high * 2) if is_log else (low - 1, high + 1)
    bins = np.geomspace(low, high, NUM_BINS) if is_log else np.linspace(low, high, NUM_BINS)
    splits = list(values_of)
    axes.hist(
        [np.clip(values_of[split], low, high) for split in splits],
        bins,
        stacked=True,
        label=splits,
        color=COLOURS[: len(splits)],
    )
    if is_log:
        axes.set_xscale("log")
        format_log_axis(axes.xaxis)
    axes.set(title=title, xlabel=xlabel, ylabel=thing)
    axes.grid(alpha=0.3)


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
