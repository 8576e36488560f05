"""How fast images become training batches, and how fast MobileNet 1.0 learns from them, beside the usual tools.

    python -m tasks.classification.throughput loading --images FOLDER
    python -m tasks.classification.throughput training

`loading`: JPEG files to batches at 224 px, a random crop and a flip, on one core in one process. Ours gives uint8,
which the network normalises; the others do so too, and once more with the floats that they usually give.
`training`: MobileNet 1.0 at 224 px with SGD on images in memory, beside timm's mobilenetv1_100 with torch's
defaults, and with our two settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from tasks.common.throughput import Step, compare, time_calls, time_training

INPUT_SIZE, LOADING_BATCH, TRAINING_BATCH = 224, 64, 32
MIN_CROP_AREA = 0.08
# Of each benchmark: its ways, and to which of them the rate of each is put in proportion.
LOADING = dict.fromkeys(
    (
        "ours",
        "albumentations + OpenCV",
        "albumentations + OpenCV, floats",
        "torchvision + PIL",
        "torchvision + PIL, floats",
    ),
    "albumentations + OpenCV",
)
TRAINING = dict.fromkeys(
    (
        "ours, timm's padding",
        "ours, TensorFlow's padding",
        "timm, channels last, kept memory",
        "timm, channels last",
        "timm",
    ),
    "timm",
)


def main(words: list[str]) -> int:
    """Measure all modes of one of the two, or one mode in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("loading", "training"))
    parser.add_argument("--images", type=Path, help="folder of JPEG files, at any depth (default: the sample's)")
    name = "tasks.classification.throughput"
    if "loading" in words:
        return compare(name, parser, words, LOADING, _loading, images_per_step=LOADING_BATCH)
    return compare(name, parser, words, TRAINING, _training, images_per_step=TRAINING_BATCH)


def _loading(mode: str, options: argparse.Namespace) -> list[Step]:
    import torch

    from datasets.loader import TrainingBatches, TrainingSet, build_loader
    from datasets.sample.classification import sample_root

    torch.set_num_threads(1)
    root = options.images or sample_root()
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if mode == "ours":
        from datasets.labelled import LabelledImages
        from datasets.memory import keep_freed_memory
        from datasets.transforms import CropAugmentation

        keep_freed_memory()  # as in every loader process
        source = LabelledImages(root, [str(path.relative_to(root)) for path in files], [0] * len(files), ["any"])
        source.min_side_px = 2 * INPUT_SIZE
        crop = CropAugmentation(INPUT_SIZE, min_crop_area=MIN_CROP_AREA, randaugment_ops=0)
        batches = TrainingBatches(len(files), LOADING_BATCH, seed=0)
        loader: Any = build_loader(TrainingSet(source, crop, seed=0), batches, num_workers=0)
    else:
        build = _albumentations if mode.startswith("albumentations") else _torchvision
        dataset: Any = _Files(files, build(floats=mode.endswith("floats")))
        loader = torch.utils.data.DataLoader(dataset, LOADING_BATCH, shuffle=True, drop_last=True)
    arriving = chain.from_iterable(repeat(loader))
    return time_calls("loading", lambda: next(arriving), options.steps)


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


def _training(mode: str, options: argparse.Namespace) -> list[Step]:
    import torch
    from torch.nn.functional import cross_entropy

    from backbone.base import Classifier
    from backbone.build import build_backbone
    from datasets.memory import keep_freed_memory

    is_ours = mode.startswith("ours")
    if is_ours or mode.endswith("kept memory"):
        keep_freed_memory()
    torch.manual_seed(0)
    images = torch.randint(0, 256, (TRAINING_BATCH, INPUT_SIZE, INPUT_SIZE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    class_ids = torch.randint(0, 1000, (TRAINING_BATCH,))
    if is_ours:
        backbone = build_backbone("mobilenet_1.0", "timm" if "timm" in mode else "keras")
        model: Any = Classifier(backbone, 1000).train()
        batch = images
    else:
        import timm

        model = timm.create_model("mobilenetv1_100").train()
        batch = (images.float().contiguous() / 255 - 0.5) / 0.5
        if "channels last" in mode:
            model.to(memory_format=torch.channels_last)
            batch = batch.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    arriving: Iterator[Any] = repeat(batch)
    return time_training(arriving, lambda x: cross_entropy(model(x), class_ids), optimizer, options.steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
