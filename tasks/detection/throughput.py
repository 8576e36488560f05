"""Training images per second, where the time goes, and torchvision's SSDlite on the same images beside it.

    python -m tasks.detection.throughput
    python -m tasks.detection.throughput --data.root ../shared/data/coco128

Our SSD300 and torchvision's ssdlite320_mobilenet_v3_large (0.58 G mult-adds against our 1.24 G), each with the memory
setting of `datasets.memory` and without. All load through our loader; torchvision gets what its own API asks for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

from tasks.common.benchmark import Step, compare, time_training

BATCH_SIZE = 16
MODES = ("ours", "ours, default malloc", "torchvision, kept memory", "torchvision")


def main(words: list[str]) -> int:
    """Measure all modes, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.root", dest="root", help="folder in COCO's official layout (default: the sample)")
    name = "tasks.detection.throughput"
    return compare(name, parser, words, MODES, _measure, baseline="torchvision", images_per_step=BATCH_SIZE)


def _measure(mode: str, options: argparse.Namespace) -> list[Step]:
    import torch

    from datasets.loader import TrainingBatches, TransformedDataset, build_loader
    from datasets.memory import keep_freed_memory
    from tasks.common.optim import build_optimizer
    from tasks.detection import DetectionConfig, DetectionTask
    from tasks.detection.config import DetectionDataConfig

    if mode in ("ours", "torchvision, kept memory"):
        keep_freed_memory()
    torch.manual_seed(0)
    is_ours = mode.startswith("ours")
    data = DetectionDataConfig(root=options.root, input_size=300 if is_ours else 320)
    task = DetectionTask.from_data(DetectionConfig(data=data))
    dataset = TransformedDataset(task.source("train"), task.augmentation(), seed=0)
    batches = TrainingBatches(len(dataset), BATCH_SIZE, seed=0)
    loader = build_loader(dataset, batches, num_workers=2, keep_workers=True)
    arriving: Iterator[Any] = chain.from_iterable(repeat(loader))
    model, loss_of = _ours(task) if is_ours else _torchvision(len(task.class_names))
    return time_training(arriving, loss_of, build_optimizer(model.train(), task.config.optim), options.steps)


def _ours(task: Any) -> tuple[Any, Callable[[Any], Any]]:
    model = task.build_model()
    return model, lambda batch: task.loss(model(batch.images), batch.truth)["total"]


def _torchvision(num_classes: int) -> tuple[Any, Callable[[Any], Any]]:
    import torch
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes + 1)

    def loss_of(batch: Any) -> Any:
        targets = [
            {"boxes": torch.from_numpy(t.boxes_xyxy), "labels": torch.from_numpy(t.class_ids) + 1} for t in batch.truth
        ]
        return sum(model(list(batch.images.float() / 255), targets).values())

    return model, loss_of


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
