"""Generated faces are valid data sets, and not separable by their pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from datasets.celeba import open_attributes
from datasets.faces import open_faces, read_lfw
from datasets.sample import attributes, embedding
from datasets.sample.faces import ATTRIBUTES, SIDE_PX, draw_face, sample_attributes, sample_identity


def face(identity_id: int, photo: int, *names: str) -> np.ndarray:
    rng = np.random.default_rng([identity_id, photo])
    return draw_face(sample_identity(np.random.default_rng(identity_id)), names, rng)


def test_faces_are_functions_of_their_seed() -> None:
    np.testing.assert_array_equal(face(1, 2), face(1, 2))
    assert face(1, 2).shape == (SIDE_PX, SIDE_PX, 3)
    assert (face(1, 2) != face(1, 3)).any()
    assert (face(1, 2) != face(2, 2)).any()


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_is_visible(name: str) -> None:
    """All else equal, pixels differ."""
    change = [np.abs(face(p, 0, name).astype(int) - face(p, 0)).max() for p in range(4)]
    assert min(change) > 20


def test_attributes_are_as_frequent_as_stated(rng: np.random.Generator) -> None:
    counts = dict.fromkeys(ATTRIBUTES, 0)
    for _ in range(2000):
        for name in sample_attributes(rng):
            counts[name] += 1
    for name, frequency in ATTRIBUTES.items():
        assert counts[name] / 2000 == pytest.approx(frequency, abs=0.04)


def test_layouts_are_the_official_ones(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    attributes.write_sample(tmp_path / "a", {"train": 6, "val": 3})
    found = open_attributes(tmp_path / "a")
    assert {split: len(found[split]) for split in found.names} == {"train": 6, "val": 3}
    assert found["train"].attribute_names == tuple(ATTRIBUTES)
    embedding.write_sample(tmp_path / "e", {"train": (5, 3), "val": (6, 4)})
    splits = open_faces(tmp_path / "e")
    assert {split: (len(splits[split].identities), len(splits[split])) for split in splits.names} == {
        "train": (5, 15),
        "val": (6, 24),
    }
    photos, folds = read_lfw(tmp_path / "e" / "val")
    assert set(photos.identities) <= set(splits["val"].identities)
    identities = [{photo.identity for pair in fold for photo in pair[:2]} for fold in folds]
    assert len(folds) == 3
    assert not set.intersection(*identities)  # disjoint folds
    assert all(sum(pair.same for pair in fold) == len(fold) / 2 for fold in folds)


def pixels(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).ravel() / 255


def test_attributes_are_not_linear_in_the_pixels() -> None:
    rng = np.random.default_rng(0)
    images, truth = [], []
    for _ in range(1200):
        names = sample_attributes(rng)
        images.append(pixels(draw_face(sample_identity(rng), names, rng)))
        truth.append([name in names for name in ATTRIBUTES])
    x, y = np.stack(images), np.array(truth)
    scores = [
        average_precision_score(
            y[900:, column],
            LogisticRegression(C=0.01, max_iter=300).fit(x[:900], y[:900, column]).decision_function(x[900:]),
        )
        for column in range(len(ATTRIBUTES))
    ]
    print(f"logistic regression on pixels of generated faces: mean AP {np.mean(scores):.3f}, chance {y.mean():.3f}")
    assert np.mean(scores) < 0.6


def test_identities_are_not_separable_by_their_pixels() -> None:
    photos = np.stack([pixels(face(identity_id, photo)) for identity_id in range(40) for photo in range(4)])
    photos -= photos.mean(0)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    identity_ids = np.repeat(np.arange(40), 4)
    first, second = np.triu_indices(len(identity_ids), 1)
    auc = roc_auc_score(identity_ids[first] == identity_ids[second], (photos @ photos.T)[first, second])
    print(f"cosine of the pixels of generated faces: AUC {auc:.3f}")
    assert auc < 0.75
