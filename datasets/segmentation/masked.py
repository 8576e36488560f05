"""Images with masks, from any format."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from datasets.detection.pairing import name_in_split
from datasets.images.decoding import apply_orientation
from datasets.images.headers import TRANSPOSED
from datasets.images.read import UnreadableImageError
from datasets.progress import track
from datasets.segmentation.masks import MaskCoding, decode_mask
from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageStore, Rows, StoredExamples, join_images
from datasets.subsample import evenly_spread
from datasets.types import VOID, Mask

NUM_PROBED = 20  # masks that are read when a split is opened
MAX_FAULTY_FRACTION = 0.5  # of these; if more are faulty, the fault is in all of them


class MaskStore(Protocol):
    """The masks of images."""

    def __len__(self) -> int: ...

    def id(self, row: int) -> str:
        """Where a mask is, for messages."""

    def read(self, row: int) -> NDArray[np.uint8]:
        """The class ids (H, W).

        Raises:
            UnreadableImageError: if it cannot be read.
        """

    def select(self, rows: Rows) -> Self:
        """The masks at `rows`, in that order."""

    def join(self, others: Sequence[Self]) -> Self:
        """These masks and those of other splits."""


class MaskFiles:
    """A file, or a member of a tar file, for each mask: a `MaskStore`."""

    def __init__(self, files: ImageStore, coding: MaskCoding) -> None:
        """Args: files: the masks; coding: of their values."""
        self.files, self.coding = files, coding

    def __len__(self) -> int:
        return len(self.files)

    def id(self, row: int) -> str:
        """The path of a file."""
        return self.files.id(row)

    def read(self, row: int) -> NDArray[np.uint8]:
        """The class ids, see `decode_mask`."""
        return decode_mask(self.files.data(row), self.files.id(row), self.coding)

    def select(self, rows: Rows) -> MaskFiles:
        """The files at `rows`, in that order."""
        return MaskFiles(self.files.select(rows), self.coding)

    def join(self, others: Sequence[MaskFiles]) -> MaskFiles:
        """These files and those of other splits."""
        return MaskFiles(join_images([self.files, *(other.files for other in others)]), self.coding)


class MaskedImages(StoredExamples[Mask]):
    """Images and their masks.

    Attributes:
        masks: N.
        class_names: by class id.
    """

    def __init__(
        self, images: ImageStore, masks: MaskStore, class_names: Sequence[str], warnings: Sequence[str] = ()
    ) -> None:
        """Args: images: N; masks: one each; class_names: by class id; warnings: of the reader."""
        super().__init__(images, warnings)
        self.masks, self.class_names = masks, tuple(class_names)

    def truth(self, index: int) -> Mask:
        """The mask of an image, without decoding the image.

        A mask is upright, as annotation tools show the photo (labelme and CVAT apply EXIF's orientation). One that has
        the size of the stored pixels, which EXIF turns by 90 degrees, is turned with them.

        Raises:
            UnreadableImageError: if it or the image cannot be read, their sizes differ, or it is all void.
        """
        class_ids, header = self.masks.read(index), self.images.header(index)
        size_hw = header.height, header.width
        if class_ids.shape != size_hw and header.orientation in TRANSPOSED and class_ids.shape == size_hw[::-1]:
            class_ids = apply_orientation(class_ids, header.orientation)
        if class_ids.shape != size_hw:
            height, width = class_ids.shape
            raise UnreadableImageError(
                f"{self.masks.id(index)}: a mask of {width} x {height} pixels, but {self.id(index)} has "
                f"{header.width} x {header.height}; expected the same size"
            )
        if (class_ids == VOID).all():
            raise UnreadableImageError(
                f"{self.masks.id(index)}: all of its pixels are void; expected a class for some, or no such image"
            )
        return Mask(class_ids)

    @cached_property
    def pixel_counts(self) -> NDArray[np.int32]:
        """The pixels of each class in each image, (N, K), from all masks; 0 for those that cannot be read."""
        counts = np.zeros((len(self), len(self.class_names)), np.int32)
        for row in track(range(len(self)), "reading masks", len(self)):
            with suppress(UnreadableImageError):
                counts[row] = np.bincount(self.truth(row).class_ids.ravel(), minlength=VOID + 1)[
                    : len(self.class_names)
                ]
        return counts

    def select(self, rows: Rows) -> MaskedImages:
        """The images of these rows, in that order."""
        selected = MaskedImages(self.images.select(rows), self.masks.select(rows), self.class_names, self.warnings)
        selected.decoding = self.decoding
        return selected

    def probe(self) -> Self:
        """These images, after a look at some of their masks.

        Raises:
            ValueError: with the first fault, if more than half of them are faulty.
        """
        rows = evenly_spread(len(self), NUM_PROBED).tolist()
        faults = [fault for row in rows if (fault := self.fault(row))]
        if len(faults) > MAX_FAULTY_FRACTION * len(rows):
            raise ValueError(faults[0])
        return self

    def fault(self, index: int) -> str:
        """What is wrong with an image or its mask, a line; empty for nothing, as far as is seen without decoding it."""
        try:
            self.truth(index)
        except UnreadableImageError as error:
            return str(error)
        return ""


def join_masked(parts: Sequence[MaskedImages]) -> MaskedImages:
    """The images of several splits of a data set."""
    first, *others = parts
    warnings = list(dict.fromkeys(line for part in parts for line in part.warnings))
    masks = first.masks.join([other.masks for other in others])
    return MaskedImages(join_images([part.images for part in parts]), masks, first.class_names, warnings)


def held_out(source: MaskedImages, holdout: Holdout) -> NDArray[np.bool_]:
    """The mask of the images to hold out, by a hash of their names.

    Raises:
        ValueError: if there is only one image.
    """
    names = [name_in_split(source.images.name(row)) for row in range(len(source))]
    if len(set(names)) < 2 and (holdout.start, holdout.stop) != (0, 1):
        raise ValueError(f"{source.images.root}: 1 image; a validation part needs another (or data.val_fraction none)")
    return validation_rows(names, holdout)
