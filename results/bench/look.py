"""Reading data and looking at them before a training, on generated annotations and on copies of JPEG files."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from results.bench.loading import jpeg_files
from results.bench.measure import Comparison, Step, Timing, Workload, peak_memory_mb

NUM_SOURCES = 100  # image files that all others are links to, or copies of
BOXES_PER_IMAGE, NUM_CLASSES, NUM_FOLDERS = 7, 80, 13
COLD = "ours, files not in the page cache"
RECORDS_PER_TAR, SMALL_PX = 10_000, 16
AGAIN = "ours, the second time"


def _coco(implementation: str, workload: Workload) -> Timing:
    """One COCO file, and hard links to a hundred images."""
    from datasets.images.read import image_header

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        sources = _copy_sources(root / "images", workload)
        headers = [image_header(source) for source in sources]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id in range(workload.size):
            header, name = headers[image_id % len(headers)], f"{image_id:012d}.jpg"
            os.link(sources[image_id % len(sources)], root / "images" / name)
            size = {"width": header.width, "height": header.height}
            images.append({"id": image_id, "file_name": name, **size})
            half = np.tile(list(size.values()), 2) / 2
            for x, y, width, height in (rng.uniform(1, half, (BOXES_PER_IMAGE, 4))).tolist():
                annotation_id = len(annotations) + 1
                box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
                class_id = annotation_id % NUM_CLASSES
                annotations.append({"id": annotation_id, "image_id": image_id, "category_id": class_id, **box})
        categories = [{"id": class_id, "name": f"class {class_id}"} for class_id in range(NUM_CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "train.json").write_text(json.dumps(content), encoding="utf-8")
        return _measure_in_child(root, implementation, workload.size)


def _class_folders(implementation: str, workload: Workload) -> Timing:
    """Class folders of distinct files: copies of a hundred images, each with other bytes after its end."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "data"
        sources = [path.read_bytes() for path in _copy_sources(Path(temporary) / "sources", workload)]
        for number in range(workload.size):
            folder = root / f"class {number % NUM_FOLDERS}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(sources[number % len(sources)] + number.to_bytes(4, "big"))
        return _measure_in_child(root, implementation, workload.size)


def _shards(implementation: str, workload: Workload) -> Timing:
    """Tar files of 10,000 small images and their classes: hard links to one, each of which gets an index of its own."""
    from datasets.files import CACHE_VARIABLE
    from datasets.images.read import encode_image

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        root, first = Path(temporary) / "data", Path(temporary) / "first.tar"
        root.mkdir()
        os.environ[CACHE_VARIABLE] = str(Path(temporary) / "cache")  # of this process and its children
        with tarfile.open(first, "w") as archive:
            for number in range(RECORDS_PER_TAR):
                image = encode_image(rng.integers(0, 256, (SMALL_PX, SMALL_PX, 3), np.uint8), ".jpg")
                for suffix, data in ((".jpg", image), (".cls", str(number % NUM_CLASSES).encode())):
                    member = tarfile.TarInfo(f"{number:09d}{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        for number in range(-(-workload.size // RECORDS_PER_TAR)):
            os.link(first, root / f"train-{number:06d}.tar")
        timing = _measure_in_child(root, implementation, workload.size)
        return _measure_in_child(root, implementation, workload.size) if implementation == AGAIN else timing


def _copy_sources(folder: Path, workload: Workload) -> list[Path]:
    from datasets.sample.classification import sample_root

    folder.mkdir()
    copies = []
    root = sample_root() if workload.images is None else Path(workload.images)
    for number, path in enumerate(jpeg_files(root)[:NUM_SOURCES]):
        copies.append(folder / f"source {number}.jpg")
        copies[-1].write_bytes(path.read_bytes())
    return copies


def _measure_in_child(root: Path, implementation: str, num_images: int) -> Timing:
    """In a process that has not written the data, so that its memory is that of reading them."""
    if implementation == COLD:
        _drop_from_page_cache(root)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(_measure, root, num_images).result()


def _measure(root: Path, num_images: int) -> Timing:
    from datasets.look.look import look
    from datasets.open import open_folder

    times, processor_s = [time.perf_counter()], time.process_time()
    _, data = open_folder(root)
    sources = {split: data[split] for split in data.names}
    times.append(time.perf_counter())
    read_mb, processor_s = peak_memory_mb(), time.process_time() - processor_s
    look(sources, input_size=300)
    times.append(time.perf_counter())
    steps: list[Step] = [{"read": times[1] - times[0], "look": times[2] - times[1]}]
    details = {"peak_memory_mb": peak_memory_mb(), "after_reading_mb": read_mb, "processor_s_to_read": processor_s}
    return Timing(num_images, steps, details)


def _drop_from_page_cache(root: Path) -> None:
    """Write the files to the disk and forget their content; names and inodes stay cached."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


COMPARISONS = [
    Comparison(
        name="COCO, {size:,} images and 7 times as many boxes",
        unit="images",
        implementations={"ours": None, COLD: None},
        reference=None,
        measure=_coco,
        size=118_000,
        size_flag="num_images",
        steps=1,
        warmup=0,
    ),
    Comparison(
        name="class folders, {size:,} files",
        unit="images",
        implementations={"ours": None, COLD: None},
        reference=None,
        measure=_class_folders,
        size=13_000,
        size_flag="num_images",
        steps=1,
        warmup=0,
    ),
    Comparison(
        name="shards, {size:,} small records",
        unit="images",
        implementations={"ours": None, AGAIN: None},
        reference=None,
        measure=_shards,
        size=1_000_000,
        size_flag="num_images",
        steps=1,
        warmup=0,
    ),
]
