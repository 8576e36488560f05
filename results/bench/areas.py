"""The areas of the benchmark; each has a module of its name here, with `COMPARISONS`. Imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results.bench.measure import Comparison, Job

AREAS = {
    "look": "reading annotations and looking at the data before a training",
    "loading": "JPEG files to training batches, compared with albumentations and torchvision",
    "training": "training steps of MobileNet and SSD300, compared with timm and torchvision",
    "prediction": "pixels to boxes, one image at a time, compared with torchvision's detectors",
    "predict": "a folder of JPEG files to boxes and drawn pictures, compared with a plain PyTorch loop",
    "postprocessing": "raw detector outputs to boxes, compared with torchvision",
    "evaluation": "COCO metrics, compared with pycocotools",
    "search": "queries to a gallery of embeddings, compared with faiss's exact search",
    "cells": "S2 cell ids, compared with s2geometry; PlaNet's cells from photos",
}


def comparisons_of(area: str) -> list[Comparison]:
    """The comparisons of an area."""
    found: list[Comparison] = importlib.import_module(f"results.bench.{area}").COMPARISONS
    return found


def jobs_of(
    area: str,
    *,
    steps: int | None,
    sizes: Mapping[str, int | None],
    images: str | None,
    coco: str | None,
) -> list[Job]:
    """The comparisons of an area with their workloads.

    Args:
        area: of the benchmark.
        steps: measured in each process; None for each comparison's own number.
        sizes: by flag; None for each comparison's own size.
        images: folder of JPEG files.
        coco: folder in COCO's layout.
    """
    from results.bench.measure import Job, Workload

    jobs = []
    for comparison in comparisons_of(area):
        size = sizes.get(comparison.size_flag or "") or comparison.size
        workload = Workload(size, steps or comparison.steps, comparison.warmup, images, coco)
        jobs.append(Job(area, comparison, workload))
    return jobs
