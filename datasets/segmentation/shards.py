"""Images with masks in tar files: `key.jpg` beside `key.mask.png` (or `key.seg.png`, `key.png`)."""

from __future__ import annotations

from functools import partial

from datasets.segmentation.masked import MaskedImages, MaskFiles, held_out, join_masked
from datasets.segmentation.masks import VOID_NAMES, MaskCoding
from datasets.shards.find import CARD, Shards, names_in_card
from datasets.shards.records import open_shards, read_records
from datasets.splits import Holdout, SplitData, hold_out
from datasets.types import VOID


def open_masked_shards(shards: Shards, holdout: Holdout | None = None) -> SplitData[MaskedImages]:
    """The images of each split; the values of masks are class ids, the index of a name in the card, or 255 for void.

    Raises:
        ValueError: naming the tar files, if no names of classes are beside them, or most masks are faulty.
    """
    names = names_in_card(shards, "class_names")
    num_classes = sum(name.lower() not in VOID_NAMES for name in names or ())
    if names is None or not 0 < num_classes <= VOID or len(names) > VOID + 1:
        raise ValueError(
            f"{shards.root}: {num_classes} names of classes for masks; expected {CARD} beside the tar files with 1 to "
            f'{VOID}, such as {{"class_names": ["background", "road"]}}'
        )
    data = open_shards(shards, partial(_read, MaskCoding.of_names(names)))
    return hold_out(data, holdout, val_rows=held_out, join=join_masked)


def _read(coding: MaskCoding, shards: Shards) -> MaskedImages:
    records = read_records(shards, "mask", lambda _: None)
    masks = MaskFiles(records.masks, coding)
    return MaskedImages(records.images, masks, coding.class_names, records.warnings).probe()
