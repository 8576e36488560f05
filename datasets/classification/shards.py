"""Labelled images in tar files: `key.jpg` beside `key.cls`, as WebDataset has ImageNet."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from datasets.classification.labelled import LabelledImages, join_labelled, validation_rows_of_classes
from datasets.shards.find import CARD, Shards, names_in_card
from datasets.shards.records import TarTexts, open_shards, read_records
from datasets.splits import Holdout, SplitData, hold_out

MAX_CLASSES = 1_000_000  # without a list of names: more are taken for a mistake


def open_labelled_shards(shards: Shards, holdout: Holdout | None = None) -> SplitData[LabelledImages]:
    """The images of each split.

    `key.cls` (or `key.txt`) has a class id, or the name of a class. The card beside the tar files has `class_names`, by
    class id; without it the ids are the names, or names are sorted.

    Raises:
        ValueError: naming the record or the card: no class, a class that is not in the list, fewer than two classes.
    """
    class_names = names_in_card(shards, "class_names") or _find_class_names(shards)
    if len(class_names) < 2:
        raise ValueError(f"{shards.root}: {len(class_names)} class; expected at least two in key.cls")
    data = open_shards(shards, partial(_read, class_names))
    rows = partial(validation_rows_of_classes, root=shards.root, key=str)
    return hold_out(data, holdout, val_rows=rows, join=join_labelled)


def _read(class_names: list[str], shards: Shards) -> LabelledImages:
    records = read_records(shards, "cls", partial(_class_ids, shards, class_names))
    return LabelledImages(records.images, np.concatenate(records.values), class_names, records.warnings)


def _class_ids(shards: Shards, class_names: list[str], texts: TarTexts) -> NDArray[np.int64]:
    id_of = {name: class_id for class_id, name in enumerate(class_names)}
    id_of |= {str(class_id): class_id for class_id in range(len(class_names)) if "class_names" in shards.card}
    class_ids = np.zeros(len(texts.texts), np.int64)
    for row, word in enumerate(_words(texts)):
        if word not in id_of:
            raise ValueError(
                f"{texts.names[row]}: {word[:100]!r} is no class; expected one of the {len(class_names)} names, or its "
                f"number from 0, of class_names in {CARD}"
            )
        class_ids[row] = id_of[word]
    return class_ids


def _find_class_names(shards: Shards) -> list[str]:
    """All ids up to the highest, or all names, sorted; of all splits, so that they have the same classes."""
    words = set().union(*read_records(shards, "cls", lambda texts: set(_words(texts))).values)
    if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        return sorted(words)
    num_classes = 1 + max(map(int, words))
    if num_classes > MAX_CLASSES:
        raise ValueError(f"{shards.root}: class ids up to {num_classes - 1}; expected fewer than {MAX_CLASSES:,}")
    return [str(class_id) for class_id in range(num_classes)]


def _words(texts: TarTexts) -> list[str]:
    """The text of each record in one way of writing: a number without zeros before it."""
    words = [text.decode("utf-8", "replace").strip() for text in texts.texts]
    return [str(int(word)) if word.isascii() and word.isdecimal() and len(word) < 10 else word for word in words]
