"""Drawn faces: `train` has a folder for each identity, `val` unseen ones in LFW's official layout with its pairs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from datasets.faces import PAIRS
from datasets.images import write_image
from datasets.sample.brush import cached
from datasets.sample.faces import draw_attributes, draw_face, draw_identity

VERSION = 1  # goes up with every change of a picture
LFW = "val"
SIZES = {"train": (160, 12), LFW: (50, 6)}  # identities, and photos of each
NUM_FOLDS, MAX_PAIRS = 10, 60  # matched ones in a fold, and as many mismatched
SEED = 1704


def sample_root() -> Path:
    """The folder of the sample, drawn on first use into the cache."""
    return cached(f"sample-embedding-v{VERSION}", write_sample)


def write_sample(root: Path, sizes: Mapping[str, tuple[int, int]] = SIZES) -> None:
    """Write so many identities with so many photos each below `train` and `val`, and the pairs of the latter."""
    for part_number, (part, (num_identities, num_photos)) in enumerate(sizes.items()):
        for person in range(num_identities):
            identity = draw_identity(np.random.default_rng([SEED, part_number, person]))
            name = _name(part_number, person)
            (root / part / name).mkdir(parents=True)
            for photo in range(1, num_photos + 1):
                rng = np.random.default_rng([SEED, part_number, person, photo])
                picture = draw_face(identity, draw_attributes(rng), rng)
                write_image(root / part / name / f"{name}_{photo:04d}.jpg", picture)
    (root / LFW / PAIRS).write_text(_pairs(*sizes[LFW]), encoding="utf-8")


def _pairs(num_identities: int, num_photos: int) -> str:
    """Each fold has identities of its own, so that no threshold is tried on whom it was chosen with."""
    rng = np.random.default_rng(SEED)
    folds = []
    for persons in np.array_split(np.arange(num_identities), min(NUM_FOLDS, num_identities // 2)):
        names = [_name(1, int(person)) for person in persons]
        photos = [(name, number) for name in names for number in range(1, num_photos + 1)]
        pairs = list(combinations(photos, 2))
        same = [f"{a}\t{i}\t{j}" for (a, i), (b, j) in pairs if a == b]
        other = [f"{a}\t{i}\t{b}\t{j}" for (a, i), (b, j) in pairs if a != b]
        folds.append((rng.permutation(same), rng.permutation(other)))
    number = min(MAX_PAIRS, *(len(some) for fold in folds for some in fold))
    lines = [f"{len(folds)}\t{number}", *(line for fold in folds for some in fold for line in some[:number])]
    return "\n".join(lines) + "\n"


def _name(part_number: int, person: int) -> str:
    return f"person_{part_number}{person:03d}"
