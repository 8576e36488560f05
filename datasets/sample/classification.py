"""Generated butterflies of sixteen species, in Stanford Dogs' official layout.

Fine-grained: all species share the body and the wing colours, and neighbouring species differ in a single mark: spots,
bars, a dark edge, a tail. Position, size, angle, light and meadow are independent of the species.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import scipy.io

from datasets.images.read import write_image
from datasets.sample.brush import Brush, Colour, cached
from datasets.types import Image

VERSION = 1  # increment whenever the images change
NUM_IMAGES = {"train": 60, "test": 15}  # per species
SIDE_PX = 160
SEED = 1704

DARK, CREAM = (45, 35, 35), (245, 235, 205)
WING_COLOURS = ((215, 140, 45), (120, 150, 205), (190, 90, 70), (225, 210, 120))


class Species(NamedTuple):
    """The marks of a species."""

    num_spots: int
    num_bars: int
    has_edge: bool
    has_tail: bool

    @property
    def name(self) -> str:
        """For example `Tailed_two-spot_barred_edged`."""
        words = ["tailed" if self.has_tail else "round", "two-spot" if self.num_spots else "plain"]
        words += ["barred"] * bool(self.num_bars) + ["edged"] * self.has_edge
        return "_".join(words).capitalize()


SPECIES = tuple(Species(*marks) for marks in product((0, 2), (0, 2), (False, True), (False, True)))


def sample_root() -> Path:
    """The folder of the sample, generated in the cache on first use."""
    return cached(f"sample-classification-v{VERSION}", write_sample)


def write_sample(root: Path, num_images_of: Mapping[str, int] = NUM_IMAGES) -> None:
    """Write `train` and `test` images of each species, and their lists, below a folder."""
    for split_index, (split, num_images) in enumerate(num_images_of.items()):
        names, labels = [], []
        for class_id, species in enumerate(SPECIES):
            wnid = f"n{class_id:08d}"
            folder = f"{wnid}-{species.name}"
            (root / "Images" / folder).mkdir(parents=True, exist_ok=True)
            for image_index in range(num_images):
                rng = np.random.default_rng([SEED, split_index, class_id, image_index])
                names.append(f"{folder}/{wnid}_{split_index}{image_index:03d}.jpg")
                labels.append(class_id + 1)
                write_image(root / "Images" / names[-1], draw_butterfly(species, rng))
        files = np.array(names, object)[:, None]
        stems = np.array([name.removesuffix(".jpg") for name in names], object)[:, None]
        content = {"file_list": files, "annotation_list": stems, "labels": np.array(labels, np.uint8)[:, None]}
        scipy.io.savemat(root / f"{split}_list.mat", content)


def draw_butterfly(species: Species, rng: np.random.Generator) -> Image:
    """An image of the species, (SIDE_PX, SIDE_PX, 3)."""
    canvas = _meadow(rng)
    side = rng.uniform(0.55, 0.85) * SIDE_PX
    left, top = rng.uniform(-0.05 * side, SIDE_PX - 0.95 * side, 2)
    brush = Brush(canvas, left, top, side, rng, tilt=0.4)
    wing = brush.colour(*WING_COLOURS)
    for mirrored in (False, True):
        _draw_wings(brush, species, wing, mirrored=mirrored)
    brush.ellipse(0.5, 0.52, 0.035, 0.26, DARK)
    brush.ellipse(0.5, 0.25, 0.045, 0.045, DARK)
    light = rng.uniform(0.6, 1.15) + rng.normal(0, 0.06, 3)
    noisy = canvas * light + rng.normal(0, rng.uniform(2, 10), canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _draw_wings(brush: Brush, species: Species, wing: Colour, *, mirrored: bool) -> None:
    """The fore wing and the hind wing of one side."""

    def at(x: float) -> float:
        return 1 - x if mirrored else x

    edge = DARK if species.has_edge else wing
    if species.has_tail:
        brush.polygon([(at(0.18), 0.8), (at(0.36), 0.82), (at(0.2), 1.02), (at(0.13), 1.04)], DARK)
    for x, y, radius_x, radius_y in ((0.27, 0.68, 0.2, 0.2), (0.26, 0.36, 0.26, 0.22)):
        brush.ellipse(at(x), y, radius_x, radius_y, edge)
        brush.ellipse(at(x + 0.02), y, radius_x - 0.05, radius_y - 0.05, wing)
    for bar in range(species.num_bars):
        x = 0.2 + 0.11 * bar
        brush.polygon([(at(x), 0.2), (at(x + 0.045), 0.2), (at(x + 0.075), 0.5), (at(x + 0.03), 0.5)], DARK)
    for spot in range(species.num_spots):
        x, y = 0.2 + 0.14 * spot, 0.7 + 0.03 * spot
        brush.ellipse(at(x), y, 0.06, 0.06, DARK)
        brush.ellipse(at(x), y, 0.028, 0.028, CREAM)


def _meadow(rng: np.random.Generator) -> Image:
    """Grass, leaves and blossoms in the colours of the butterflies."""
    shade = rng.uniform((60, 90, 40), (170, 190, 120)) + np.linspace(-25, 25, SIDE_PX)[:, None, None]
    canvas: Image = np.clip(np.broadcast_to(shade, (SIDE_PX, SIDE_PX, 3)), 0, 255).astype(np.uint8)
    palette = (*WING_COLOURS, DARK, CREAM, (70, 120, 50), (110, 140, 60))
    for _ in range(int(rng.integers(10, 25))):
        centre = (int(rng.integers(SIDE_PX)), int(rng.integers(SIDE_PX)))
        axes = (int(rng.integers(3, 26)), int(rng.integers(2, 9)))
        colour = np.clip(np.array(palette[int(rng.integers(len(palette)))]) + rng.normal(0, 20, 3), 0, 255).tolist()
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, cv2.FILLED, cv2.LINE_AA)
    return canvas
