"""Images with masks, from any format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from datasets.detection.pairing import name_in_split
from datasets.images.read import UnreadableImageError, image_header
from datasets.segmentation.masks import MaskCoding, read_mask
from datasets.splits import Holdout, validation_rows
from datasets.stores import ImageFiles, Rows, StoredExamples, join_files
from datasets.subsample import evenly_spread
from datasets.types import VOID, Example, Mask

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
    """A file for each mask: a `MaskStore`."""

    def __init__(self, files: ImageFiles, coding: MaskCoding) -> None:
        """Args: files: the masks; coding: of their values."""
        self.files, self.coding = files, coding

    def __len__(self) -> int:
        return len(self.files)

    def id(self, row: int) -> str:
        """The path of a file."""
        return self.files.id(row)

    def read(self, row: int) -> NDArray[np.uint8]:
        """The class ids, see `read_mask`."""
        return read_mask(Path(self.files.id(row)), self.coding)

    def select(self, rows: Rows) -> MaskFiles:
        """The files at `rows`, in that order."""
        return MaskFiles(self.files.select(rows), self.coding)

    def join(self, others: Sequence[MaskFiles]) -> MaskFiles:
        """These files and those of other splits."""
        return MaskFiles(join_files([self.files, *(other.files for other in others)]), self.coding)


class MaskedImages(StoredExamples[Mask]):
    """Images and their masks.

    Attributes:
        masks: N.
        class_names: by class id.
    """

    images: ImageFiles

    def __init__(
        self, images: ImageFiles, masks: MaskStore, class_names: Sequence[str], warnings: Sequence[str] = ()
    ) -> None:
        """Args: images: N; masks: one each; class_names: by class id; warnings: of the reader."""
        super().__init__(images, warnings)
        self.masks, self.class_names = masks, tuple(class_names)

    def __getitem__(self, index: int) -> Example[Mask]:
        """An image with its mask.

        Raises:
            UnreadableImageError: if one of them cannot be read, their sizes differ, or the mask is all void.
        """
        example = super().__getitem__(index)
        self._require_size(index, example.truth, example.image.shape[:2])
        return example

    def truth(self, index: int) -> Mask:
        """The mask of an image, without opening the image.

        Raises:
            UnreadableImageError: if it cannot be read, or is all void.
        """
        class_ids = self.masks.read(index)
        if (class_ids == VOID).all():
            raise UnreadableImageError(
                f"{self.masks.id(index)}: all of its pixels are void; expected a class for some, or no such image"
            )
        return Mask(class_ids)

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
        faults = [str(error) for row in rows if (error := self._fault(row)) is not None]
        if len(faults) > MAX_FAULTY_FRACTION * len(rows):
            raise ValueError(faults[0])
        return self

    def _fault(self, index: int) -> UnreadableImageError | None:
        try:
            truth, header = self.truth(index), image_header(Path(self.id(index)))
            self._require_size(index, truth, (header.height, header.width))
        except UnreadableImageError as error:
            return error
        return None

    def _require_size(self, index: int, truth: Mask, image_hw: Sequence[int]) -> None:
        if truth.class_ids.shape != tuple(image_hw):
            (height, width), (image_height, image_width) = truth.class_ids.shape, image_hw
            raise UnreadableImageError(
                f"{self.masks.id(index)}: a mask of {width} x {height} pixels, but {self.id(index)} has "
                f"{image_width} x {image_height}; expected the same size"
            )


def join_masked(parts: Sequence[MaskedImages]) -> MaskedImages:
    """The images of several splits of a data set."""
    first, *others = parts
    warnings = list(dict.fromkeys(line for part in parts for line in part.warnings))
    masks = first.masks.join([other.masks for other in others])
    return MaskedImages(join_files([part.images for part in parts]), masks, first.class_names, warnings)


def held_out(source: MaskedImages, holdout: Holdout) -> NDArray[np.bool_]:
    """The mask of the images to hold out, by a hash of their names.

    Raises:
        ValueError: if there is only one image.
    """
    names = [name_in_split(source.images.name(row)) for row in range(len(source))]
    if len(set(names)) < 2 and (holdout.start, holdout.stop) != (0, 1):
        raise ValueError(f"{source.images.root}: 1 image; a validation part needs another (or data.val_fraction none)")
    return validation_rows(names, holdout)
