"""JPEG files to training batches: a random crop of 224 px and a flip, in one process on one core.

Ours gives uint8, which the network normalises. The others do so too, and once more with normalised floats, as is usual.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.bench.measure import Comparison, Timing, Workload, time_calls

if TYPE_CHECKING:
    from datasets.classification.labelled import LabelledImages

INPUT_SIZE, MIN_CROP_AREA = 224, 0.08
SHARDS = "ours, from shards"


def _measure(implementation: str, workload: Workload) -> Timing:
    import torch

    from datasets.sample.classification import sample_root

    torch.set_num_threads(1)
    root = sample_root() if workload.images is None else Path(workload.images)
    files = jpeg_files(root)
    if len(files) < workload.size:
        raise ValueError(f"{root}: expected a batch of {workload.size} JPEG files or more, found {len(files)}")
    with tempfile.TemporaryDirectory() as folder:
        if implementation.startswith("ours"):
            source = _our_source(root, files)
            if implementation == SHARDS:
                source = _in_shards(source, Path(folder))
            loader = _our_loader(source, workload.size)
        else:
            build = _albumentations if implementation.startswith("albumentations") else _torchvision
            dataset: Any = _Files(files, build(floats=implementation.endswith("floats")))
            loader = torch.utils.data.DataLoader(dataset, workload.size, shuffle=True, drop_last=True)
        batches = chain.from_iterable(repeat(loader))
        return Timing(workload.size, time_calls(lambda: next(batches), workload), {})


def jpeg_files(root: Path) -> list[Path]:
    """The JPEG files below a folder."""
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def _our_source(root: Path, files: list[Path]) -> LabelledImages:
    from datasets.classification.labelled import LabelledImages
    from datasets.stores import ImageFiles

    images = ImageFiles(root, [str(path.relative_to(root)) for path in files])
    return LabelledImages(images, [0] * len(files), ["any", "other"])


def _in_shards(source: LabelledImages, folder: Path) -> LabelledImages:
    from datasets.classification.class_folders import open_labelled
    from datasets.writers.write import write_data

    write_data(folder, {"train": source}, "webdataset", copies=False)
    return open_labelled(folder)[0]["train"]


def _our_loader(source: LabelledImages, batch_size: int) -> Any:
    from datasets.images.read import Decoding
    from datasets.loader import TrainingBatches, TrainingSet, build_loader
    from datasets.memory import keep_freed_memory
    from datasets.transforms import CropAugmentation

    keep_freed_memory()  # as in every loader process
    source.decoding = Decoding(min_side_px=2 * INPUT_SIZE)
    crop = CropAugmentation(INPUT_SIZE, min_crop_area=MIN_CROP_AREA, randaugment_ops=0)
    batches = TrainingBatches(len(source), batch_size, seed=0)
    return build_loader(TrainingSet(source, crop, seed=0), batches, num_workers=0)


class _Files:
    """The usual data set of a script: files, a class, a transform."""

    def __init__(self, files: list[Path], read: Callable[[Path], Any]) -> None:
        self.files, self.read = files, read

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.read(self.files[index]), 0


def _albumentations(*, floats: bool) -> Callable[[Path], Any]:
    import albumentations as A
    import cv2
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(0)
    crop = A.RandomResizedCrop((INPUT_SIZE, INPUT_SIZE), scale=(MIN_CROP_AREA, 1))
    pipeline = A.Compose([crop, A.HorizontalFlip(), *([A.Normalize()] if floats else []), ToTensorV2()])
    return lambda path: pipeline(image=cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))["image"]


def _torchvision(*, floats: bool) -> Callable[[Path], Any]:
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(INPUT_SIZE, scale=(MIN_CROP_AREA, 1))
    to_floats = [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    pipeline = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor(), *(to_floats if floats else [])])
    return lambda path: pipeline(Image.open(path).convert("RGB"))


COMPARISONS = [
    Comparison(
        name="batches of {size} at 224 px",
        unit="images",
        implementations=dict.fromkeys(
            (
                "ours",
                SHARDS,
                "albumentations + OpenCV",
                "albumentations + OpenCV, floats",
                "torchvision + PIL",
                "torchvision + PIL, floats",
            )
        ),
        reference="albumentations + OpenCV",
        measure=_measure,
        size=64,
        size_flag="batch_size",
        steps=12,
    )
]
