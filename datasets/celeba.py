"""Images with binary attributes, in CelebA's official layout."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.files import missing_files, path_inside
from datasets.stores import ImageFiles, ImageStore, StoredExamples
from datasets.types import Attributes

IMAGES, ATTRIBUTE_LIST, PARTITION_LIST = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
Partition = Literal["train", "val", "test"]
PARTITION_IDS: dict[Partition, int] = {"train": 0, "val": 1, "test": 2}


class AttributeImages(StoredExamples[Attributes]):
    """Images and their attributes.

    Attributes:
        attribute_names: by column, K.
        values: bool (N, K).
    """

    def __init__(
        self,
        images: ImageStore,
        values: NDArray[np.bool_],
        attribute_names: Sequence[str],
        warnings: Sequence[str] = (),
    ) -> None:
        """Args: images: N; values: (N, K); attribute_names: by column; warnings: from the reader."""
        super().__init__(images, warnings)
        self.values = values
        self.attribute_names = tuple(attribute_names)

    def truth(self, index: int) -> Attributes:
        """The attributes of an image, without reading it."""
        return Attributes(self.values[index].astype(np.float32))


def read_celeba(root: Path) -> Mapping[Partition, AttributeImages]:
    """`img_align_celeba/*`, `list_attr_celeba.txt` and `list_eval_partition.txt` below `root`.

    The first list has a count, a line of attribute names, and a line for each image with its name and -1 or 1 for each
    attribute; the second has lines `name 0`, 1 or 2 for train, val, test. Fields are separated by whitespace.

    Returns:
        The non-empty partitions.

    Raises:
        ValueError: naming file and line: missing or invalid lists, a wrong number of values, an image without a
            partition, missing images.
    """
    names, values, attribute_names = _read_attributes(root / ATTRIBUTE_LIST)
    partitions = _read_partitions(root / PARTITION_LIST, names)
    folder = root / IMAGES
    missing = missing_files([path_inside(folder, name) for name in names])
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} images of {root / ATTRIBUTE_LIST} are missing; first {missing[0]}"
        )
    encoded = np.array([os.fsencode(name) for name in names])
    found: dict[Partition, AttributeImages] = {}
    for partition, partition_id in PARTITION_IDS.items():
        rows = np.flatnonzero(partitions == partition_id)
        if len(rows):
            found[partition] = AttributeImages(ImageFiles(folder, encoded[rows]), values[rows], attribute_names)
    return found


def _read_attributes(path: Path) -> tuple[list[str], NDArray[np.bool_], list[str]]:
    """Image names, (N, K) values, K attribute names."""
    lines = _lines(path)
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise ValueError(f"{path}: line 1: expected the number of images, then a line of attribute names")
    attribute_names, rows = lines[1].split(), [line.split() for line in lines[2:]]
    if len(rows) != int(lines[0]):
        raise ValueError(f"{path}: line 1 gives {int(lines[0])} images, but there are {len(rows)}")
    if len(set(attribute_names)) < len(attribute_names):
        raise ValueError(f"{path}: line 2: duplicate attribute name")
    for line_number, words in enumerate(rows, 3):
        if len(words) != 1 + len(attribute_names):
            raise ValueError(
                f"{path}: line {line_number}: expected a name and {len(attribute_names)} values, got {len(words)} words"
            )
        if not set(words[1:]) <= {"-1", "1"}:
            invalid = next(word for word in words[1:] if word not in ("-1", "1"))
            raise ValueError(f"{path}: line {line_number}: expected -1 or 1 for each attribute, got {invalid!r}")
    names = [words[0] for words in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: duplicate image name")
    return names, np.array([words[1:] for words in rows]) == "1", attribute_names


def _read_partitions(path: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """The partition id of each image."""
    partition_of: dict[str, int] = {}
    for line_number, line in enumerate(_lines(path), 1):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise ValueError(
                f"{path}: line {line_number}: expected an image and 0 (train), 1 (val) or 2 (test): {line!r}"
            )
        partition_of[words[0]] = int(words[1])
    missing = [name for name in names if name not in partition_of]
    if missing:
        raise ValueError(f"{path}: {len(missing)} of {len(names)} images are not listed; first {missing[0]}")
    return np.array([partition_of[name] for name in names], np.int64)


def _lines(path: Path) -> list[str]:
    """The non-empty lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such file; expected CelebA's {IMAGES}/, {ATTRIBUTE_LIST} and {PARTITION_LIST} in {path.parent}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error
    return [line for line in text.splitlines() if line.strip()]
