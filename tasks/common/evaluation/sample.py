"""A few preprocessed images of a split."""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets.images.read import UnreadableImageError
from datasets.progress import Progress
from datasets.sources import Source
from datasets.types import Image
from tasks.common.inference_task import InferenceTask


def sample_images(
    task: InferenceTask[Any], source: Source[Any], num_images: int, title: str
) -> tuple[list[Image], str]:
    """A random sample, the same every time, without unreadable images; and why the last of those was unreadable."""
    rows = np.random.default_rng(task.config.seed).permutation(len(source))[:num_images]
    preprocess, images, reason = task.preprocessing(), [], ""
    with Progress(title, len(rows)) as progress:
        for row in rows:
            try:
                images.append(preprocess(source[int(row)].image))
            except UnreadableImageError as error:
                reason = str(error)  # the evaluation warns about it
            progress.advance()
    return images, reason
