"""Generated faces: `train` has a folder for each identity, `val` unseen ones in LFW's official layout with pairs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from datasets.faces import PAIRS
from datasets.images.read import write_image
from datasets.sample.brush import cached
from datasets.sample.faces import draw_face, sample_attributes, sample_identity

VERSION = 1  # increment whenever the images change
LFW = "val"
SIZES = {"train": (160, 12), LFW: (50, 6)}  # identities, photos per identity
NUM_FOLDS, MAX_PAIRS = 10, 60  # matched pairs per fold, and as many mismatched
SEED = 1704


def sample_root() -> Path:
    """The folder of the sample, generated in the cache on first use."""
    return cached(f"sample-embedding-v{VERSION}", write_sample)


def write_sample(root: Path, sizes: Mapping[str, tuple[int, int]] = SIZES) -> None:
    """Write the photos of each identity below `train` and `val`, and the pairs of `val`."""
    for split_index, (split, (num_identities, num_photos)) in enumerate(sizes.items()):
        for identity_id in range(num_identities):
            identity = sample_identity(np.random.default_rng([SEED, split_index, identity_id]))
            name = _name(split_index, identity_id)
            (root / split / name).mkdir(parents=True)
            for photo in range(1, num_photos + 1):
                rng = np.random.default_rng([SEED, split_index, identity_id, photo])
                image = draw_face(identity, sample_attributes(rng), rng)
                write_image(root / split / name / f"{name}_{photo:04d}.jpg", image)
    (root / LFW / PAIRS).write_text(_pairs(*sizes[LFW]), encoding="utf-8")


def _pairs(num_identities: int, num_photos: int) -> str:
    """The folds have disjoint identities, so a threshold is never evaluated on identities it was chosen on."""
    rng = np.random.default_rng(SEED)
    folds = []
    for identity_ids in np.array_split(np.arange(num_identities), min(NUM_FOLDS, num_identities // 2)):
        names = [_name(1, int(identity_id)) for identity_id in identity_ids]
        photos = [(name, number) for name in names for number in range(1, num_photos + 1)]
        pairs = list(combinations(photos, 2))
        matched = [f"{a}\t{i}\t{j}" for (a, i), (b, j) in pairs if a == b]
        mismatched = [f"{a}\t{i}\t{b}\t{j}" for (a, i), (b, j) in pairs if a != b]
        folds.append((rng.permutation(matched), rng.permutation(mismatched)))
    num_pairs = min(MAX_PAIRS, *(len(rows) for fold in folds for rows in fold))
    lines = [f"{len(folds)}\t{num_pairs}", *(row for fold in folds for rows in fold for row in rows[:num_pairs])]
    return "\n".join(lines) + "\n"


def _name(split_index: int, identity_id: int) -> str:
    return f"person_{split_index}{identity_id:03d}"
