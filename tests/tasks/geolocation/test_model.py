"""Losses and decoding against hand arithmetic; the mode of weighted places; retrieval against scikit-learn."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional

from backbone.build import build_backbone
from datasets.sphere import distance_km
from datasets.types import Place
from tasks.common.model.logits import Logits
from tasks.geolocation.cells import Partitioning, inside
from tasks.geolocation.density import densest_place
from tasks.geolocation.loss import cell_loss, cell_targets
from tasks.geolocation.model import decode_cells
from tasks.geolocation.retrieval import TEMPERATURE, Im2GPS, NeighbourOutputs, decode_neighbours
from tests.tasks.geolocation.places import LAT_DEG, LNG_DEG, towns
from tests.tasks.laws import as_examples


def loss_of(
    logits: torch.Tensor, truth: Sequence[Place], partitionings: Sequence[Partitioning], label_smoothing: float = 0
) -> dict[str, torch.Tensor]:
    targets = cell_targets(as_examples(truth), partitionings=partitionings)
    return cell_loss(Logits(logits), targets, [len(p) for p in partitionings], label_smoothing=label_smoothing)


def test_loss_is_the_mean_cross_entropy_of_the_partitionings() -> None:
    coarse, fine = towns(8, 4)
    logits = torch.randn(3, len(coarse) + len(fine))
    truth = [Place(LAT_DEG[row], LNG_DEG[row]) for row in (0, 4, 8)]
    losses = loss_of(logits, truth, [coarse, fine])
    expected = []
    for part, cells in ((logits[:, : len(coarse)], coarse), (logits[:, len(coarse) :], fine)):
        ids = cells.find(LAT_DEG[[0, 4, 8]], LNG_DEG[[0, 4, 8]]).tolist()
        expected.append(np.mean([math.log(row.exp().sum()) - row[k] for row, k in zip(part, ids, strict=True)]))
    assert losses["cells_0"].item() == pytest.approx(expected[0], abs=1e-5)
    assert losses["cells_1"].item() == pytest.approx(expected[1], abs=1e-5)
    assert losses["total"].item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_a_photo_in_no_cell_does_not_count() -> None:
    (cells,) = towns(4)
    logits = torch.randn(2, len(cells), requires_grad=True)
    known, unknown = Place(LAT_DEG[0], LNG_DEG[0]), Place(-50, -100)
    both = loss_of(logits, [known, unknown], [cells], label_smoothing=0.1)
    alone = loss_of(logits[:1], [known], [cells], label_smoothing=0.1)
    assert set(both) == {"total"}
    assert both["total"].item() == pytest.approx(alone["total"].item())
    nothing = loss_of(logits, [unknown, unknown], [cells])["total"]
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.abs().any()


def test_the_most_probable_cells_mean_place_is_predicted() -> None:
    (cells,) = towns(4)
    logits = torch.tensor([[math.log(0.2), math.log(0.7), math.log(0.1)], [0.0, 0.0, 3.0]])
    first, second = decode_cells(Logits(logits), [cells], combine=True, bandwidth_km=None)
    np.testing.assert_allclose(first.probabilities, [0.2, 0.7, 0.1], atol=1e-6)
    assert (first.cell_id, second.cell_id) == (1, 2)
    assert (first.lat_deg, first.lng_deg) == (cells.lat_deg[1], cells.lng_deg[1])


def test_partitionings_are_combined_by_their_product() -> None:
    coarse, fine = towns(8, 4)
    around = inside(fine, coarse)
    assert len(coarse) == 2
    p, q = np.array([0.3, 0.7]), np.array([0.5, 0.2, 0.3])
    logits = torch.from_numpy(np.log(np.r_[p, q])[None]).float()
    expected = q * p[around]
    (combined,) = decode_cells(Logits(logits), [coarse, fine], combine=True, bandwidth_km=None)
    np.testing.assert_allclose(combined.probabilities, expected / expected.sum(), atol=1e-6)
    (alone,) = decode_cells(Logits(logits), [coarse, fine], combine=False, bandwidth_km=None)
    np.testing.assert_allclose(alone.probabilities, q, atol=1e-6)


def test_many_neighbours_outweigh_one() -> None:
    lat_deg, lng_deg = np.array([50.0, 10.0, 10.1, 9.9]), np.array([5.0, 179.95, -179.95, 180.0])
    weights = np.array([0.4, 0.2, 0.2, 0.2])
    assert densest_place(lat_deg, lng_deg, weights, None) == (50.0, 5.0)
    lat, lng = densest_place(lat_deg, lng_deg, weights, 100)
    assert distance_km(lat, lng, 10, 180) < 5
    assert densest_place(lat_deg, lng_deg, weights, 0.1) == pytest.approx((50.0, 5.0))


@pytest.mark.parametrize("seed", range(3))
def test_no_place_nearby_is_denser(seed: int) -> None:
    """The density, written out, is highest at the answer among a grid around it and at the places themselves."""
    rng = np.random.default_rng(seed)
    lat_deg, lng_deg, weights = rng.uniform(30, 50, 30), rng.uniform(-10, 20, 30), rng.random(30)

    def density(lat: float, lng: float) -> float:
        straight = 2 * np.sin(distance_km(lat, lng, lat_deg, lng_deg) / 6371.0088 / 2)
        width = 2 * np.sin(300 / 6371.0088 / 2)
        return float((weights * np.exp(-(straight**2) / (2 * width**2))).sum())

    lat, lng = densest_place(lat_deg, lng_deg, weights, 300)
    peak = density(lat, lng)
    others = [(lat + a, lng + b) for a in (-0.5, 0, 0.5) for b in (-0.5, 0, 0.5) if a or b]
    others += list(zip(lat_deg, lng_deg, strict=True))
    assert all(density(*other) < peak + 1e-9 for other in others)


@pytest.fixture
def gallery(rng: np.random.Generator) -> tuple[Im2GPS, np.ndarray]:
    model = Im2GPS(build_backbone("mobilenet_0.25"), num_neighbours=5)
    features = rng.normal(size=(12, 256)).astype(np.float32)
    model.fill(torch.from_numpy(features[:7]), LAT_DEG[:7], LNG_DEG[:7])
    model.fill(torch.from_numpy(features[7:]), LAT_DEG[7:], LNG_DEG[7:])
    return model, features


def test_neighbours_are_those_of_scikit_learn(gallery: tuple[Im2GPS, np.ndarray], rng: np.random.Generator) -> None:
    model, features = gallery
    queries = rng.normal(size=(4, 256)).astype(np.float32)
    found = model.from_features(torch.from_numpy(queries))
    distances, rows = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features).kneighbors(queries)
    np.testing.assert_allclose(found.similarities, 1 - distances, atol=1e-5)
    np.testing.assert_allclose(found.lat_deg, LAT_DEG[rows])
    np.testing.assert_allclose(found.lng_deg, LNG_DEG[rows])


def test_a_checkpoint_holds_the_gallery(gallery: tuple[Im2GPS, np.ndarray]) -> None:
    model, features = gallery
    again = Im2GPS(build_backbone("mobilenet_0.25"), num_neighbours=5)
    assert again.from_features(torch.from_numpy(features)).similarities.shape == (12, 0)
    again.load_state_dict(model.state_dict())
    first, second = (network.from_features(torch.from_numpy(features)) for network in (model, again))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(first.similarities[:, 0], torch.ones(12))  # each finds itself


def test_neighbours_vote_for_cells_by_similarity() -> None:
    (cells,) = towns(4)
    similarities = torch.tensor([[0.9, 0.85, 0.8]])
    outputs = NeighbourOutputs(similarities, torch.tensor([[48.0, 50.0, 50.01]]), torch.tensor([[2.0, 9.0, 9.0]]))
    weights = functional.softmax(similarities[0] / TEMPERATURE, 0).numpy()
    (nearest,) = decode_neighbours(outputs, cells, bandwidth_km=None)
    assert (nearest.lat_deg, nearest.lng_deg) == (48, 2)
    at = cells.find(np.array([48.0, 50.0]), np.array([2.0, 9.0]))
    np.testing.assert_allclose(nearest.probabilities[at], [weights[0], weights[1] + weights[2]], atol=1e-6)
    assert nearest.probabilities.sum() == pytest.approx(1)
