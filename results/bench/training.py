"""Training steps: MobileNet 1.0 on images in memory, and SSD300 with loading and augmentation.

The detectors are our SSD300 (1.24 G mult-adds) and torchvision's ssdlite320_mobilenet_v3_large (0.58 G); all load
through our loader. "kept memory" is the memory setting of `datasets/memory.py`, which ours has by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

from results.bench.measure import Comparison, Timing, Workload, time_training

INPUT_SIZE = 224


def _classifier(implementation: str, workload: Workload) -> Timing:
    import torch
    from torch.nn.functional import cross_entropy

    from backbone.base import Classifier
    from backbone.build import build_backbone
    from datasets.memory import keep_freed_memory

    is_ours = implementation.startswith("ours")
    if is_ours or implementation.endswith("kept memory"):
        keep_freed_memory()
    torch.manual_seed(0)
    size = (workload.size, INPUT_SIZE, INPUT_SIZE, 3)
    images = torch.randint(0, 256, size, dtype=torch.uint8).permute(0, 3, 1, 2)
    class_ids = torch.randint(0, 1000, (workload.size,))
    if is_ours:
        backbone = build_backbone("mobilenet_1.0", "timm" if "timm" in implementation else "keras")
        model: Any = Classifier(backbone, 1000).train()
        batch = images
    else:
        import timm

        model = timm.create_model("mobilenetv1_100").train()
        batch = (images.float().contiguous() / 255 - 0.5) / 0.5
        if "channels last" in implementation:
            model.to(memory_format=torch.channels_last)
            batch = batch.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    steps = time_training(repeat(batch), lambda x: cross_entropy(model(x), class_ids), optimizer, workload)
    return Timing(workload.size, steps, {})


def _detector(implementation: str, workload: Workload) -> Timing:
    import torch

    from datasets.loader import TrainingBatches, build_loader
    from datasets.memory import keep_freed_memory
    from tasks.common.training.optim import build_optimizer
    from tasks.detection.config import DetectionConfig, DetectionDataConfig
    from tasks.detection.task import DetectionTask

    if implementation in ("ours", "torchvision, kept memory"):
        keep_freed_memory()
    torch.manual_seed(0)
    is_ours = implementation.startswith("ours")
    data = DetectionDataConfig(root=workload.coco, input_size=300 if is_ours else 320)
    task = DetectionTask.from_data(DetectionConfig(data=data))
    dataset = task.training_set()
    batches = TrainingBatches(len(dataset), workload.size, seed=0)
    loader: Any = build_loader(dataset, batches, num_workers=2, collate=task.collate(), keep_workers=True)
    arriving: Iterator[Any] = chain.from_iterable(repeat(loader))
    model, loss_of = _our_detector(task) if is_ours else _torchvision_detector(len(task.class_names))
    optimizer = build_optimizer(model.train(), task.config.optim)
    return Timing(workload.size, time_training(arriving, loss_of, optimizer, workload), {})


def _our_detector(task: Any) -> tuple[Any, Callable[[Any], Any]]:
    model = task.build_model()
    return model, lambda batch: task.loss(model(batch.images), batch.targets)["total"]


def _torchvision_detector(num_classes: int) -> tuple[Any, Callable[[Any], Any]]:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes + 1)

    def loss_of(batch: Any) -> Any:
        pairs = zip(batch.targets.boxes_xyxy * batch.images.shape[-1], batch.targets.class_ids, strict=True)
        targets = [{"boxes": boxes[ids >= 0], "labels": ids[ids >= 0] + 1} for boxes, ids in pairs]
        return sum(model(list(batch.images.float() / 255), targets).values())

    return model, loss_of


COMPARISONS = [
    Comparison(
        name="MobileNet 1.0 at 224 px, batch {size}",
        unit="images",
        implementations={
            "ours, timm's padding": None,
            "ours, TensorFlow's padding": None,
            "timm, channels last, kept memory": "timm",
            "timm, channels last": "timm",
            "timm": "timm",
        },
        reference="timm",
        measure=_classifier,
        size=32,
        size_flag="batch_size",
        steps=8,
    ),
    Comparison(
        name="SSD300, batch {size}",
        unit="images",
        implementations=dict.fromkeys(("ours", "ours, default malloc", "torchvision, kept memory", "torchvision")),
        reference="torchvision",
        measure=_detector,
        size=16,
        size_flag="batch_size",
        steps=10,
    ),
]
