"""The records of tar files: their images, and what the text beside each says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.progress import track
from datasets.shards.find import Shards
from datasets.shards.index import TarIndex, load_index
from datasets.shards.store import ShardedImages
from datasets.shards.tars import RemoteTar
from datasets.splits import SplitData, Splittable
from datasets.words import join_words, plural

A = TypeVar("A")
S = TypeVar("S", bound=Splittable)
Part = Literal["json", "cls", "mask"]
_NUM_THREADS = 8
PART_NAMES = {"json": "key.json", "cls": "key.cls or key.txt", "mask": "key.mask.png"}


class TarTexts(NamedTuple):
    """The texts of the records of a tar file.

    Attributes:
        names: of each, with that of the tar file, for messages.
        texts: of each.
    """

    names: list[str]
    texts: list[bytes]

    def json_objects(self, expected: str) -> list[dict[str, Any]]:
        """The texts as JSON objects.

        Raises:
            ValueError: naming the record.
        """
        records = []
        for name, text in zip(self.names, self.texts, strict=True):
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{name}: expected {expected}; not valid JSON: {error}") from error
            if not isinstance(record, dict):
                raise ValueError(f"{name}: expected {expected}, got {text[:100].decode(errors='replace')!r}")
            records.append(record)
        return records


class Records(NamedTuple, Generic[A]):
    """The N records of some tar files that have an image and what is needed beside it.

    Attributes:
        images: N.
        masks: N members, of size 0 where there is no mask.
        values: what was read of the texts of each tar file.
        warnings: a line for each kind of record that is left out, and for each damaged tar file.
    """

    images: ShardedImages
    masks: ShardedImages
    values: list[A]
    warnings: list[str]


def open_shards(shards: Shards, read: Callable[[Shards], S]) -> SplitData[S]:
    """The splits of tar files, each read when it is first used."""
    parts = shards.by_split()
    counts = [f"{split} {plural(len(part.tars), 'tar file')}" for split, part in parts.items()]
    readers = {split: partial(read, part) for split, part in parts.items()}
    data = SplitData(shards.root, f"WebDataset shards: {join_words(counts)}", readers)
    num_rest = len(shards.tars) - sum(len(part.tars) for part in parts.values())
    if num_rest:
        data.found += f"; {plural(num_rest, 'tar file')} of no split left out"
    return data


def read_records(shards: Shards, needed: Part, parse: Callable[[TarTexts], A]) -> Records[A]:
    """The records of tar files, whose texts are parsed file by file, so that memory stays flat.

    Args:
        shards: the tar files.
        needed: what a record needs besides its image.
        parse: the texts of a tar file -> what they say, as arrays.

    Raises:
        ValueError: naming the tar file: not one, a faulty text, no records in any.
    """
    names, image_spans, mask_spans, shard_ids, values = [], [], [], [], []
    warnings: list[str] = []
    num_unused, num_without = 0, 0
    for shard_id, index in enumerate(track(_indices(shards), "reading tar files", len(shards.tars))):
        has_part = (index.mask_spans[:, 1] if needed == "mask" else index.texts[needed].sizes) > 0
        rows = np.flatnonzero(has_part)
        num_unused += index.num_unused
        num_without += len(index) - len(rows)
        if index.fault:
            warnings.append(f"{index.fault}; its first {plural(len(rows), 'record')} are used")
        names.append(index.names[rows])
        image_spans.append(index.image_spans[rows])
        mask_spans.append(index.mask_spans[rows])
        shard_ids.append(np.full(len(rows), shard_id, np.int32))
        values.append(parse(_texts(shards.tars[shard_id].name, index, needed, rows)))
    ids, all_names = np.concatenate(shard_ids), np.concatenate(names)
    if not len(ids):
        fault = f" ({warnings[0].partition('; ')[0]})" if warnings else ""
        raise ValueError(
            f"{shards.root}: expected tar files with pairs of an image, such as key.jpg, and {PART_NAMES[needed]}; "
            f"found none in {plural(len(shards.tars), 'tar file')}{fault}"
        )
    if num_without:
        warnings.append(f"{shards.root}: {plural(num_without, 'image')} without {PART_NAMES[needed]} left out")
    if num_unused:
        warnings.append(f"{shards.root}: {plural(num_unused, 'member')} of no image, or there twice, left out")
    images = ShardedImages(shards, ids, np.concatenate(image_spans), all_names)
    masks = ShardedImages(shards, ids, np.concatenate(mask_spans), np.char.add(all_names, b" (mask)"))
    return Records(images, masks, values, warnings)


def first_index(shards: Shards) -> TarIndex:
    """The index of the first tar file that has records; of the first, if none has."""
    first = load_index(shards.tars[0])
    return first if len(first) else next((index for tar in shards.tars[1:] if len(index := load_index(tar))), first)


def _indices(shards: Shards) -> Iterator[TarIndex]:
    """The index of each tar file; a few at a time are asked for where they are elsewhere."""
    if not any(isinstance(tar, RemoteTar) for tar in shards.tars):
        yield from map(load_index, shards.tars)
        return
    with ThreadPoolExecutor(_NUM_THREADS) as executor:
        for start in range(0, len(shards.tars), _NUM_THREADS):
            yield from executor.map(load_index, shards.tars[start : start + _NUM_THREADS])


def _texts(tar: str, index: TarIndex, needed: Part, rows: NDArray[np.int64]) -> TarTexts:
    if needed == "mask":
        return TarTexts([], [])
    texts, ending = index.texts[needed], needed
    names = [f"{tar}/{_stem(bytes(index.names[row]))}.{ending}" for row in rows.tolist()]
    return TarTexts(names, [texts[row] for row in rows.tolist()])


def _stem(name: bytes) -> str:
    folder, slash, base = name.decode("utf-8", "surrogateescape").rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"
