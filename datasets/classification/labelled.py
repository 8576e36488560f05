"""Images with one class each, in any of the known layouts; `class_folders.py` and `stanford_dogs.py` read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageStore, Rows, StoredExamples, join_images
from datasets.types import Label
from datasets.words import some


class LabelledImages(StoredExamples[Label]):
    """Images and their classes.

    Attributes:
        class_ids: int64 (N,).
        class_names: by class id.
    """

    def __init__(
        self,
        images: ImageStore,
        class_ids: Sequence[int] | NDArray[np.int64],
        class_names: Sequence[str],
        warnings: Sequence[str] = (),
    ) -> None:
        """Args: images: N; class_ids: one each; class_names: by class id; warnings: of the reader."""
        super().__init__(images, warnings)
        self.class_ids = np.asarray(class_ids, np.int64)
        self.class_names = tuple(class_names)

    def truth(self, index: int) -> Label:
        """The class of an image, without reading it."""
        return Label(int(self.class_ids[index]))

    def select(self, rows: Rows) -> LabelledImages:
        """The images of these rows, in that order."""
        selected = LabelledImages(self.images.select(rows), self.class_ids[rows], self.class_names, self.warnings)
        selected.decoding = self.decoding
        return selected


def join_labelled(parts: Sequence[LabelledImages]) -> LabelledImages:
    """The images of several sources below one folder, which have the same classes."""
    warnings = list(dict.fromkeys(line for part in parts for line in part.warnings))
    class_ids = np.concatenate([part.class_ids for part in parts])
    return LabelledImages(join_images([part.images for part in parts]), class_ids, parts[0].class_names, warnings)


def validation_rows_of_classes(
    source: LabelledImages, holdout: Holdout, *, root: Path | str, key: Callable[[str], str]
) -> NDArray[np.bool_]:
    """Mask of the images to hold out: of each class by itself, so that each is in both parts.

    The only image of a class is for training, which a warning of the source says.

    Args:
        source: the images, stored by name.
        holdout: which of them.
        root: of the data, for messages.
        key: from the name of a file to the name whose hash decides.

    Raises:
        ValueError: if no class has two images.
    """
    if (holdout.start, holdout.stop) == (0, 1):
        return np.ones(len(source), np.bool_)
    order = np.argsort(source.class_ids, kind="stable")
    is_val, alone = np.zeros(len(source), np.bool_), []
    for rows in np.split(order, np.flatnonzero(np.diff(source.class_ids[order])) + 1):
        keys = [key(source.images.name(row)) for row in rows]
        if len(set(keys)) > 1:
            is_val[rows] = validation_rows(keys, holdout)
        else:
            alone.append(source.class_names[source.class_ids[rows[0]]])
    if not is_val.any():
        raise ValueError(
            f"{root}: no class has two images, so that none can be held out for validation; data.val_fraction none "
            "trains on all"
        )
    if alone:
        line = f"{root}: {some(alone, 'class')} with one image only, which is trained on and not scored"
        source.warnings[:] = dict.fromkeys([*source.warnings, line])
    return is_val
