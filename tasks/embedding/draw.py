"""Photos with their embeddings, the ROC, and the t-SNE of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import roc_curve

from datasets.types import Face, Image
from tasks.common.drawing.draw import put_label, resize_to_height
from tasks.common.drawing.plot import add_legend_below, new_plot
from tasks.embedding.verification import Bools, Floats, OperatingPoint

HEIGHT_PX, STRIP_PX, STRIP_ROWS = 280, 10, 4
POSITIVE, NEGATIVE, WHITE = (213, 94, 0), (0, 114, 178), (255, 255, 255)
MAX_IDENTITIES, MAX_POINTS = 20, 600  # in the t-SNE plot
MARKERS = "os"  # with ten colours each


def draw_face(image: Image, predicted: Face, truth: Face | None) -> Image:
    """The photo above a heat map of its embedding: orange positive, blue negative."""
    photo = resize_to_height(image, HEIGHT_PX)
    assert predicted.embedding is not None
    size = len(predicted.embedding)
    strength = np.clip(np.abs(predicted.embedding) * np.sqrt(size) / 2, 0, 1)[:, None]
    hue = np.where(predicted.embedding[:, None] > 0, POSITIVE, NEGATIVE)
    cells = (strength * hue + (1 - strength) * 255).astype(np.uint8)
    padded = np.full((-(-size // STRIP_ROWS) * STRIP_ROWS, 3), 255, np.uint8)
    padded[:size] = cells
    strip = padded.reshape(STRIP_ROWS, -1, 3)
    drawn = cv2.resize(strip, (photo.shape[1], STRIP_ROWS * STRIP_PX), interpolation=cv2.INTER_NEAREST)
    if truth is not None:
        put_label(photo, f"{truth.identity} {truth.image_number}", 4, 4, WHITE)
    return np.concatenate([photo, drawn])


def draw_roc(similarities: Floats, same: Bools, points: Sequence[OperatingPoint], path: Path) -> None:
    """Histograms of the similarities of genuine and impostor pairs, and the ROC curve.

    Args:
        similarities: (P,) of pairs.
        same: (P,), whether both photos show one identity.
        points: operating points to mark, unless undefined.
        path: output image.
    """
    with new_plot(path, 12, 5) as figure:
        bars, curve = figure.subplots(1, 2)
        for mask, colour, name in ((same, "#e69f00", "genuine"), (~same, "#0072b2", "impostor")):
            values = similarities[mask]
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                bars.hist(
                    values,
                    50,
                    range=(-1, 1),
                    weights=weights,
                    color=colour,
                    alpha=0.6,
                    label=f"{len(values)} {name} pairs",
                )
        bars.set(xlabel="cosine similarity", ylabel="fraction of pairs")
        if same.any() and not same.all():
            add_legend_below(bars, 2)
            false_rates, true_rates, _ = roc_curve(same, similarities)
            min_far = 0.5 / (~same).sum()
            curve.step(np.maximum(false_rates, min_far), true_rates, where="post")
            for point in points:
                if not np.isnan(point.tar):
                    curve.plot(point.far, point.tar, "ko", markersize=4)
                    text = f"{point.tar:.3f}"
                    curve.annotate(
                        text, (point.far, point.tar), textcoords="offset points", xytext=(4, -12), fontsize=8
                    )
            curve.set(xscale="log", xlim=(min_far, 1))
        curve.set(xlabel="false accept rate (FAR)", ylabel="true accept rate (TAR)", ylim=(0, 1.02))
        curve.grid(alpha=0.3)


def draw_space(embeddings: NDArray[np.float32], identities: Sequence[str], path: Path) -> None:
    """A t-SNE plot of the photos of the most frequent identities.

    Args:
        embeddings: (N, D), of length 1.
        identities: N names.
        path: output image.
    """
    names, ids, counts = np.unique(identities, return_inverse=True, return_counts=True)
    shown = np.argsort(-counts, kind="stable")[:MAX_IDENTITIES]
    rows = np.flatnonzero(np.isin(ids, shown))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_POINTS)).astype(int))]
    if len(rows) < 4:  # too few for a t-SNE
        return
    points = TSNE(perplexity=min(15, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(embeddings[rows])
    with new_plot(path, 9, 7) as figure:
        axes = figure.subplots()
        for index, identity_id in enumerate(np.sort(shown).tolist()):
            x, y = points[ids[rows] == identity_id].T
            style = {"color": f"C{index % 10}", "marker": MARKERS[index // 10]}
            axes.scatter(x, y, 24, label=str(names[identity_id]), **style)
        axes.set(xticks=[], yticks=[], title=f"{len(rows)} photos of {len(shown)} identities, t-SNE")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
