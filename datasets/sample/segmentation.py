"""The generated scenes of `detection.py` with the class of each pixel: images, masks and a list of classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.images.read import write_image
from datasets.sample.brush import cached
from datasets.sample.detection import PAINTERS, paint_scene
from datasets.segmentation.files import CLASSES
from datasets.segmentation.masks import write_mask
from datasets.types import Split

VERSION = 1  # increment whenever the images change
NUM_IMAGES: dict[Split, int] = {"train": 400, "val": 100}
SEED = 1802
CLASS_NAMES = ("background", *PAINTERS)


def sample_root() -> Path:
    """The folder of the sample, generated in the cache on first use."""
    return cached(f"sample-segmentation-v{VERSION}", write_sample)


def write_sample(root: Path, num_images_of: Mapping[Split, int] = NUM_IMAGES) -> None:
    """Write the images of each split, and their masks, below a folder."""
    (root / CLASSES).write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
    for split_index, (split, num_images) in enumerate(num_images_of.items()):
        images, masks = root / "images" / split, root / "masks" / split
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number in range(num_images):
            image, object_map, painted = paint_scene(np.random.default_rng([SEED, split_index, number]))
            class_of_object = np.array([*(1 + class_id for class_id, _ in painted), 0], np.uint8)  # -1 is the last
            write_image(images / f"{number:06}.jpg", image)
            write_mask(masks / f"{number:06}.png", class_of_object[object_map])
