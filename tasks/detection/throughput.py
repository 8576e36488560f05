"""Training images per second, where the time goes, and torchvision's SSDlite on the same images beside it.

    python -m tasks.detection.throughput
    python -m tasks.detection.throughput --data.root ../shared/data/coco128

Four processes, one after the other in turn, so that a machine whose speed drifts treats them alike: our SSD300 and
torchvision's ssdlite320_mobilenet_v3_large (0.58 G mult-adds against our 1.24 G), each with the memory setting of
`datasets.memory` and without. All load through our loader; torchvision gets what its own API asks for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

BATCH_SIZE, WARMUP_STEPS = 16, 3
MODES = ("ours", "ours, default malloc", "torchvision, kept memory", "torchvision")


def main(words: list[str]) -> int:
    """Measure all modes, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data.root", dest="root", help="folder in COCO's official layout (default: the sample)")
    parser.add_argument("--steps", type=int, default=10, help="measured in a process (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each mode (default: %(default)s)")
    parser.add_argument("--only", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.only:
        print(json.dumps(_measure(options.only, options.root, options.steps)))
        return 0

    seconds: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(options.rounds):
        for mode in MODES:
            command = [sys.executable, "-m", "tasks.detection.throughput", *words, "--only", mode]
            printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            seconds[mode] += json.loads(printed.splitlines()[-1])
    medians = {mode: statistics.median(sum(step.values()) for step in steps) for mode, steps in seconds.items()}
    print(f"batch {BATCH_SIZE}, medians of {options.rounds} x {options.steps} steps")
    for mode, median in medians.items():
        print(f"{mode:<26}{BATCH_SIZE / median:7.1f} images/s   {medians['torchvision'] / median:5.2f} x torchvision")
    for mode in ("ours", "torchvision"):
        parts = {part: statistics.median(step[part] for step in seconds[mode]) for part in seconds[mode][0]}
        shares = ", ".join(f"{part} {100 * value / sum(parts.values()):.0f}%" for part, value in parts.items())
        print(f"{mode}: {shares}")
    return 0


def _measure(mode: str, root: str | None, num_steps: int) -> list[dict[str, float]]:
    """Seconds of each part of each step."""
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
    data = DetectionDataConfig(root=root, input_size=300 if is_ours else 320)
    task = DetectionTask.from_data(DetectionConfig(data=data))
    dataset = TransformedDataset(task.source("train"), task.augmentation(), seed=0)
    loader = build_loader(dataset, TrainingBatches(len(dataset), BATCH_SIZE, seed=0), num_workers=2)
    arriving: Iterator[Any] = chain.from_iterable(repeat(loader))
    model, loss_of = _ours(task) if is_ours else _torchvision(len(task.class_names))
    optimizer = build_optimizer(model.train(), task.config.optim)

    steps = []
    for step in range(WARMUP_STEPS + num_steps):
        times = [time.perf_counter()]
        batch = next(arriving)
        times.append(time.perf_counter())
        loss = loss_of(batch)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        if step >= WARMUP_STEPS:
            parts = ("waiting for data", "forward and loss", "backward", "optimiser")
            steps.append({part: times[i + 1] - times[i] for i, part in enumerate(parts)})
    return steps


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
