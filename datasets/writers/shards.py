"""Write WebDataset shards: tar files with `key.jpg` beside `key.json` or `key.cls`.

Format: https://github.com/webdataset/webdataset#the-webdataset-format.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from datasets.types import Split
from datasets.writers.coco import coco_categories, coco_records
from datasets.writers.output import OutputFolder, flat_names
from datasets.writers.prepare import Part
from datasets.writers.voc import JPEG_SUFFIXES

MAX_IMAGES, MAX_BYTES = 10_000, 1 << 30  # of a shard
SEED = 0
FOR_OTHER_PROGRAMS = "shards are for other programs: this suite itself reads only shards of geotagged photos"


def write_detection_shards(output: OutputFolder, parts: Mapping[Split, Part]) -> None:
    """Write `key.json` with COCO's records of the image and its annotations, and `categories.json`."""
    for split, part in parts.items():
        paths = [part.path(row) for row in range(len(part.names))]
        write_shards(output, split, paths, part.names, ".json", partial(_detection_record, part))
    categories = coco_categories(next(iter(parts.values())))
    output.add_text("categories.json", json.dumps(categories, indent=2, ensure_ascii=False) + "\n")
    output.notes.append(FOR_OTHER_PROGRAMS)


def write_shards(
    output: OutputFolder,
    prefix: str,
    paths: Sequence[Path],
    names: Sequence[str],
    suffix: str,
    record: Callable[[int], str],
) -> None:
    """Write `<prefix>-000000.tar`, ... in a random order, the same every time, since shards are read as streams.

    Args:
        output: the folder.
        prefix: of the shards, such as train.
        paths: of the image files (N,).
        names: of the images (N,), distinct and without folders; up to their suffix they become keys.
        suffix: of the second member, such as `.json`.
        record: the text of the second member of each row.
    """
    # A key ends at its first dot.
    keys = flat_names([Path(name).stem.replace(".", "_") for name in names])
    num_changed = sum(key != Path(name).stem for key, name in zip(keys, names, strict=True))
    output.note_count(num_changed, f"keys for {prefix} are not the names of their files: a key ends at its first dot")
    order = np.random.default_rng(SEED).permutation(len(paths)).tolist()
    for number, rows in enumerate(_shards(order, [path.stat().st_size for path in paths])):
        with tarfile.open(output.file(f"{prefix}-{number:06d}.tar"), "w") as archive:
            for row in rows:
                image_suffix = Path(names[row]).suffix.lower()
                image_suffix = ".jpg" if image_suffix in JPEG_SUFFIXES else image_suffix
                _add(archive, keys[row] + image_suffix, paths[row].read_bytes())
                _add(archive, keys[row] + suffix, record(row).encode())
                output.advance()


def _detection_record(part: Part, row: int) -> str:
    height, width = part.image_hw(row)
    image = {"file_name": part.names[row], "width": width, "height": height}
    return json.dumps(image | {"annotations": coco_records(part, row)}, ensure_ascii=False)


def _shards(order: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """The rows of each shard."""
    rows: list[int] = []
    num_bytes = 0
    for row in order:
        if rows and (len(rows) == MAX_IMAGES or num_bytes + sizes[row] > MAX_BYTES):
            yield rows
            rows, num_bytes = [], 0
        rows.append(row)
        num_bytes += sizes[row]
    yield rows


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
