"""Photos with their embeddings or their matches, the ROC, and the t-SNE of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.drawing.draw import BLACK, PALETTE, RIGHT, UNKNOWN, WHITE, WRONG, add_caption, contact_sheet, pad, rescale
from datasets.drawing.plot import add_legend_below, new_plot
from datasets.images.read import AS_STORED, Decoding, UnreadableImageError, read_image
from datasets.types import Face, Image
from tasks.embedding.gallery import Box, Entry, Match
from tasks.embedding.verification import Bools, Floats, OperatingPoint

HEIGHT_PX, MAX_WIDTH_PX, STRIP_PX, STRIP_ROWS = 280, 1120, 10, 4
POSITIVE, NEGATIVE = (213, 94, 0), (0, 114, 178)
TILE_PX, FRAME_PX = 220, 6  # of a match
MAX_MATCHES = 8  # in a row; with more the captions could not be read
LEGEND_PX = 16  # text size
PALE = 0.5  # fraction of white blended into a match below the threshold
MAX_POINTS = 600  # of the t-SNE plot
MARKERS = "osD^vP*X"  # one for each identity in the t-SNE plot


def draw_face(image: Image, predicted: Face, truth: Face | None) -> Image:
    """The photo above a heat map of its embedding: orange positive, blue negative."""
    photo = rescale(image, min(HEIGHT_PX / image.shape[0], MAX_WIDTH_PX / image.shape[1]))
    assert predicted.embedding is not None
    size = len(predicted.embedding)
    strength = np.clip(np.abs(predicted.embedding) * np.sqrt(size) / 2, 0, 1)[:, None]
    hue = np.where(predicted.embedding[:, None] > 0, POSITIVE, NEGATIVE)
    cells = (strength * hue + (1 - strength) * 255).astype(np.uint8)
    padded = np.full((-(-size // STRIP_ROWS) * STRIP_ROWS, 3), 255, np.uint8)
    padded[:size] = cells
    strip = padded.reshape(STRIP_ROWS, -1, 3)
    drawn = cv2.resize(strip, (photo.shape[1], STRIP_ROWS * STRIP_PX), interpolation=cv2.INTER_NEAREST)
    picture = np.concatenate([photo, drawn])
    return picture if truth is None else add_caption(picture, f"{truth.identity} {truth.image_number}")


def draw_matches(
    found: Sequence[tuple[Entry, Sequence[Match]]], point: OperatingPoint | None, decoding: Decoding = AS_STORED
) -> Image:
    """Each query and its best matches in a row; matches that are the query's own file are left out.

    A match's frame is green if it is in a folder of the same name as the query, red if not; without frame where names
    of folders are no identities, because there is only one, or the query's is not among them.

    Args:
        found: queries, and their matches, best first; where faces are detected, each photo has the box of its face.
        point: matches below its threshold are pale; None for no threshold.
        decoding: how the photos' files become pixels.
    """
    folders = {_folder(match.path) for _, matches in found for match in matches}
    rows, has_frames = [], False
    for (query, box), matches in found:
        is_identity = len(folders) > 1 and _folder(query) in folders
        has_frames |= is_identity
        tiles = [add_caption(_tile(query, box, WHITE, decoding), f"query: {Path(query).name}")]
        for match in [match for match in matches if match.path != query][:MAX_MATCHES]:
            is_same = _folder(match.path) == _folder(query)
            frame = WHITE if not is_identity else RIGHT if is_same else WRONG
            tile = _tile(match.path, match.face_box_xyxy, frame, decoding)
            if point is not None and match.similarity < point.threshold:
                tile = ((1 - PALE) * tile + PALE * 255).astype(np.uint8)
            tiles.append(add_caption(tile, f"{match.similarity:.3f} {Path(match.path).name}"))
        rows.append(tiles)
    columns = max(map(len, rows))
    blank = np.full_like(rows[0][0], 255)
    sheet = contact_sheet([tile for row in rows for tile in row + [blank] * (columns - len(row))], columns)
    legend = ["green: same folder, red: another"] * has_frames
    if point is not None:
        legend.append(f"pale: below {point.threshold:.3f}, the threshold for a false accept rate of {point.far:g}")
    return add_caption(sheet, ";  ".join(legend), size_px=LEGEND_PX) if legend else sheet


def _folder(path: str) -> str:
    return Path(path).parent.name


def _tile(path: str, box_xyxy: Box | None, frame: tuple[int, int, int], decoding: Decoding) -> Image:
    """A photo in a frame, with a box around its face; grey if it was moved or deleted since it was indexed."""
    try:
        photo = read_image(Path(path), decoding)
        scale = TILE_PX / max(photo.shape[:2])
        photo = rescale(photo, scale)
        if box_xyxy is not None:
            x0, y0, x1, y1 = (round(value * scale) for value in box_xyxy)
            cv2.rectangle(photo, (x0, y0), (x1, y1), UNKNOWN, 2)
    except UnreadableImageError:
        photo = np.full((TILE_PX, TILE_PX, 3), 127, np.uint8)
    border = (FRAME_PX,) * 4
    framed: Image = cv2.copyMakeBorder(photo, *border, cv2.BORDER_CONSTANT, value=frame)  # type: ignore[assignment]
    return pad(framed, TILE_PX + 2 * FRAME_PX, TILE_PX + 2 * FRAME_PX)


def draw_roc(similarities: Floats, same: Bools, points: Sequence[OperatingPoint], path: Path) -> None:
    """Histograms of the similarities of genuine and impostor pairs, and the ROC curve.

    Args:
        similarities: (P,) of pairs.
        same: (P,), whether both photos show one identity.
        points: operating points to mark, unless undefined.
        path: output image.
    """
    from sklearn.metrics import roc_curve  # slow to import

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
    from sklearn.manifold import TSNE  # slow to import

    names, ids, counts = np.unique(identities, return_inverse=True, return_counts=True)
    shown = np.argsort(-counts, kind="stable")[: len(MARKERS)]
    rows = np.flatnonzero(np.isin(ids, shown))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_POINTS)).astype(int))]
    if len(rows) < 4:  # too few for a t-SNE
        return
    points = TSNE(perplexity=min(15, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(embeddings[rows])
    with new_plot(path, 9, 7) as figure:
        axes = figure.subplots()
        for index, identity_id in enumerate(np.sort(shown).tolist()):
            x, y = points[ids[rows] == identity_id].T
            colour = np.array((*PALETTE, BLACK)[index]) / 255
            axes.scatter(x, y, 60, [colour], marker=MARKERS[index], label=str(names[identity_id]))
        axes.set(xticks=[], yticks=[], title=f"{len(rows)} photos of {len(shown)} of {len(names)} identities, t-SNE")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
