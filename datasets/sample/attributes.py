"""Generated faces with random attributes, in CelebA's official layout; each image is a new identity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.celeba import ATTRIBUTE_LIST, IMAGES, PARTITION_IDS, PARTITION_LIST
from datasets.images.read import write_image
from datasets.sample.brush import cached
from datasets.sample.faces import ATTRIBUTES, draw_face, sample_attributes, sample_identity
from datasets.types import Split

VERSION = 1  # increment whenever the images change
NUM_IMAGES: dict[Split, int] = {"train": 1600, "val": 400}
SEED = 1704


def sample_root() -> Path:
    """The folder of the sample, generated in the cache on first use."""
    return cached(f"sample-attributes-v{VERSION}", write_sample)


def write_sample(root: Path, num_images_of: Mapping[Split, int] = NUM_IMAGES) -> None:
    """Write `train` and `val` faces, and the lists of their attributes and partitions, below a folder."""
    (root / IMAGES).mkdir()
    rows: list[str] = []
    partitions: list[str] = []
    for split, num_images in num_images_of.items():
        for _ in range(num_images):
            image_id = len(rows) + 1
            rng = np.random.default_rng([SEED, image_id])
            name, attributes = f"{image_id:06d}.jpg", sample_attributes(rng)
            write_image(root / IMAGES / name, draw_face(sample_identity(rng), attributes, rng))
            rows.append(" ".join([name, *(f"{1 if attribute in attributes else -1:2d}" for attribute in ATTRIBUTES)]))
            partitions.append(f"{name} {PARTITION_IDS[split]}")
    lines = [str(len(rows)), " ".join(ATTRIBUTES), *rows]
    (root / ATTRIBUTE_LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / PARTITION_LIST).write_text("\n".join(partitions) + "\n", encoding="utf-8")
