"""The generated samples: official layout, correct boxes, deterministic."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from datasets.detection.coco import read_coco
from datasets.files import CACHE_VARIABLE
from datasets.sample import classification, detection
from datasets.sample.classification import SPECIES, draw_butterfly
from datasets.sample.detection import PAINTERS, draw_scene, sample_root


def test_reads_as_official_layout_without_repairs(generated_root: Path) -> None:
    for split, num_images in (("train2017", 24), ("val2017", 8)):
        data = read_coco(generated_root, generated_root / "annotations" / f"instances_{split}.json")
        assert len(data) == num_images
        assert data.categories.names == tuple(PAINTERS)
        assert data.warnings == []


def test_scenes_are_functions_of_their_seed() -> None:
    first, first_objects = draw_scene(np.random.default_rng(1))
    again, again_objects = draw_scene(np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert first_objects == again_objects


def test_boxes_are_inside_and_every_kind_occurs() -> None:
    seen = set()
    for seed in range(60):
        image, objects = draw_scene(np.random.default_rng(seed))
        for category_id, (x, y, width, height) in objects:
            seen.add(category_id)
            assert 0 <= x < x + width <= image.shape[1]
            assert 0 <= y < y + height <= image.shape[0]
    assert seen == set(range(1, len(PAINTERS) + 1))


def test_sample_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    written = []
    monkeypatch.setattr(detection, "write_sample", lambda root: written.append(root))
    assert sample_root() == sample_root()
    assert len(written) == 1
    assert [path.name for path in tmp_path.iterdir()] == [sample_root().name]


def butterflies(split_index: int, num_images: int) -> tuple[np.ndarray, list[int]]:
    """Pixels of the sample's images at 16 px, and class ids."""
    pixels, class_ids = [], []
    for class_id, species in enumerate(SPECIES):
        for index in range(num_images):
            image = draw_butterfly(species, np.random.default_rng([classification.SEED, split_index, class_id, index]))
            pixels.append(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).ravel() / 255)
            class_ids.append(class_id)
    return np.stack(pixels), class_ids


def test_species_are_not_linear_in_the_pixels() -> None:
    """Species differ only in small marks: a logistic regression on pixels is near chance, 1 / 16."""
    train, test = butterflies(0, classification.NUM_IMAGES["train"]), butterflies(1, classification.NUM_IMAGES["test"])
    top1 = LogisticRegression(C=0.01, max_iter=300).fit(*train).score(*test)
    print(f"logistic regression on pixels of generated butterflies: top-1 {top1:.3f}")
    assert top1 < 0.3


def test_species_differ_in_one_mark_from_their_neighbours() -> None:
    assert len(set(SPECIES)) == len({species.name for species in SPECIES}) == 16
    for species in SPECIES:
        neighbours = [s for s in SPECIES if sum(a != b for a, b in zip(species, s, strict=True)) == 1]
        assert len(neighbours) == 4
