"""Training curves, and the style of the curves of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from datasets.drawing.draw import PALETTE, colour
from datasets.drawing.plot import add_legend_below, new_plot

MAX_LABELLED_CURVES = 12  # more colours cannot be told apart


def class_style(class_id: int, label: str, num_curves: int) -> dict[str, Any]:
    """The style of a class's curve, as keyword arguments of `plot`: thin and grey without a label if there are many."""
    if num_curves > MAX_LABELLED_CURVES:
        return {"color": (0.8, 0.8, 0.8), "linewidth": 0.6}
    rgb, linestyle = [value / 255 for value in colour(class_id)], "--" if class_id // len(PALETTE) % 2 else "-"
    return {"color": rgb, "linestyle": linestyle, "linewidth": 1.2, "label": label}


def score_title(score_name: str) -> str:
    """The title of an axis with a score on the validation images."""
    return f"{score_name} on validation images"


def draw_curves(history: Sequence[Mapping[str, Any]], score_name: str, path: Path) -> None:
    """Plot the losses, the score with its best epoch, and the learning rate over epochs; epoch 0 is the start."""
    with new_plot(path, 12, 4) as figure:
        losses, scores, rates = figure.subplots(1, 3)
        trained = [row for row in history if row["epoch"] > 0]
        for key in filter(lambda key: key.startswith("loss"), history[-1]):
            losses.plot([row["epoch"] for row in trained], [row[key] for row in trained], label=key)
        losses.set(title="training loss", xlabel="epoch", ylim=(0, None))
        add_legend_below(losses, 3)
        scored = [row for row in history if score_name in row]
        for key in filter(lambda key: key.startswith(score_name), history[-1]):  # the last epoch is evaluated
            scores.plot([row["epoch"] for row in scored], [row[key] for row in scored], marker=".", label=key)
        best = max((row for row in scored if math.isfinite(row[score_name])), key=itemgetter(score_name), default=None)
        if best is not None:
            epoch, score = best["epoch"], best[score_name]
            label = f"best {score_name}: {score:.3f}, epoch {epoch}"
            scores.plot(epoch, score, "k*", markersize=11, zorder=3, clip_on=False, label=label)
        scores.set(title="validation" if scored else "no validation images", xlabel="epoch", ylim=(0, 1))
        if scored:
            add_legend_below(scores, 3)
        rates.plot([row["epoch"] for row in trained], [row["lr"] for row in trained])
        rates.set(title="learning rate", xlabel="epoch", ylim=(0, None))
        for axes in (losses, scores, rates):
            axes.grid(alpha=0.3)
