"""Look at classes of images, or of their pixels: whether there is something to learn and to score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from datasets.classification.labelled import LabelledImages
from datasets.look.finding import Finding, ratio
from datasets.segmentation.masked import MaskedImages
from datasets.types import Split
from datasets.words import first_of


def class_counts(source: LabelledImages | MaskedImages) -> NDArray[np.int64]:
    """The number of images of each class, (K,); of masks, of those with pixels of it."""
    if isinstance(source, MaskedImages):
        return (source.pixel_counts > 0).sum(0)  # type: ignore[no-any-return]
    return np.bincount(source.class_ids, minlength=len(source.class_names))


def look_at_classes(sources: Mapping[Split, LabelledImages | MaskedImages]) -> Iterator[Finding]:
    """What is to be said about the classes of a data set."""
    counts = {split: class_counts(source) for split, source in sources.items()}
    names = np.array(next(iter(sources.values())).class_names, object)
    if "train" in counts:
        yield from _learnable(names, counts["train"], counts.get("val"))
    for split in ("val", "test"):
        if split not in counts or "train" not in counts:
            continue
        lacking = names[(counts["train"] > 0) & (counts[split] == 0)].tolist()
        if lacking:
            yield Finding(
                "note", f"{ratio(len(lacking), len(names), 'classes')} have no images in {split}: {first_of(lacking)}"
            )


def _learnable(
    names: NDArray[np.object_], train: NDArray[np.int64], val: NDArray[np.int64] | None
) -> Iterator[Finding]:
    has_images = train > 0
    if has_images.sum() < 2:
        only = f", {names[has_images][0]!r}" if has_images.any() else ""
        yield Finding(
            "error", f"train: images of {int(has_images.sum())} class{only}; with fewer than two nothing can be learned"
        )
    elif not has_images.all():
        unlearned = names[~has_images].tolist()
        num_scored = 0 if val is None else int((val[~has_images] > 0).sum())
        also = f"; val has images of {num_scored} of them, which no model will get right" if num_scored else ""
        yield Finding(
            "warning",
            f"{ratio(len(unlearned), len(names), 'classes')} have no images in train: {first_of(unlearned)}{also}",
        )
