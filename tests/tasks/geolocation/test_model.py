"""Losses and decoding against values by hand; the mode of weighted points; retrieval against scikit-learn."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional

from backbone.build import build_backbone
from datasets.geolocation.sphere import distance_km
from datasets.types import Place
from tasks.common.deploy import predictor
from tasks.common.deploy.postprocessing import OPSET
from tasks.common.model.logits import Logits
from tasks.geolocation.cells import Partitioning, coarse_cell_ids
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.loss import cell_loss, cell_targets
from tasks.geolocation.mean_shift import weighted_mode
from tasks.geolocation.method import METHODS
from tasks.geolocation.model import decode_cells
from tasks.geolocation.onnx_postprocess import neighbour_probabilities
from tasks.geolocation.places import TEMPERATURE
from tasks.geolocation.retrieval import Im2GPS, NeighbourOutputs, decode_neighbours
from tests.tasks.geolocation.towns import LAT_DEG, LNG_DEG, towns
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


def test_a_photo_in_no_cell_is_ignored() -> None:
    (cells,) = towns(4)
    logits = torch.randn(2, len(cells), requires_grad=True)
    inside, outside = Place(LAT_DEG[0], LNG_DEG[0]), Place(-50, -100)
    losses = loss_of(logits, [inside, outside], [cells], label_smoothing=0.1)
    expected = loss_of(logits[:1], [inside], [cells], label_smoothing=0.1)
    assert set(losses) == {"total"}
    assert losses["total"].item() == pytest.approx(expected["total"].item())
    zero = loss_of(logits, [outside, outside], [cells])["total"]
    zero.backward()
    assert zero.item() == 0
    assert not logits.grad.abs().any()


def test_the_centroid_of_the_most_probable_cell_is_predicted() -> None:
    (cells,) = towns(4)
    logits = torch.tensor([[math.log(0.2), math.log(0.7), math.log(0.1)], [0.0, 0.0, 3.0]])
    first, second = decode_cells(Logits(logits), [cells], combine=True, bandwidth_km=None)
    np.testing.assert_allclose(first.probabilities, [0.2, 0.7, 0.1], atol=1e-6)
    assert (first.cell_id, second.cell_id) == (1, 2)
    assert (first.lat_deg, first.lng_deg) == (cells.lat_deg[1], cells.lng_deg[1])


def test_partitionings_are_combined_by_their_product() -> None:
    coarse, fine = towns(8, 4)
    coarse_ids = coarse_cell_ids(fine, coarse)
    assert len(coarse) == 2
    p, q = np.array([0.3, 0.7]), np.array([0.5, 0.2, 0.3])
    logits = torch.from_numpy(np.log(np.r_[p, q])[None]).float()
    expected = q * p[coarse_ids]
    (combined,) = decode_cells(Logits(logits), [coarse, fine], combine=True, bandwidth_km=None)
    np.testing.assert_allclose(combined.probabilities, expected / expected.sum(), atol=1e-6)
    (finest_only,) = decode_cells(Logits(logits), [coarse, fine], combine=False, bandwidth_km=None)
    np.testing.assert_allclose(finest_only.probabilities, q, atol=1e-6)


def test_the_mode_is_the_cluster_not_the_heaviest_point() -> None:
    lat_deg, lng_deg = np.array([50.0, 10.0, 10.1, 9.9]), np.array([5.0, 179.95, -179.95, 180.0])
    weights = np.array([0.4, 0.2, 0.2, 0.2])
    assert weighted_mode(lat_deg, lng_deg, weights, None) == (50.0, 5.0)
    lat, lng = weighted_mode(lat_deg, lng_deg, weights, 100)
    assert distance_km(lat, lng, 10, 180) < 5
    assert weighted_mode(lat_deg, lng_deg, weights, 0.1) == pytest.approx((50.0, 5.0))


@pytest.mark.parametrize("seed", range(3))
def test_the_density_is_highest_at_the_mode(seed: int) -> None:
    """Among a grid around it and the points themselves, with the density written out."""
    rng = np.random.default_rng(seed)
    lat_deg, lng_deg, weights = rng.uniform(30, 50, 30), rng.uniform(-10, 20, 30), rng.random(30)

    def density(lat: float, lng: float) -> float:
        chords = 2 * np.sin(distance_km(lat, lng, lat_deg, lng_deg) / 6371.0088 / 2)
        bandwidth = 2 * np.sin(300 / 6371.0088 / 2)
        return float((weights * np.exp(-(chords**2) / (2 * bandwidth**2))).sum())

    lat, lng = weighted_mode(lat_deg, lng_deg, weights, 300)
    highest = density(lat, lng)
    points = [(lat + a, lng + b) for a in (-0.5, 0, 0.5) for b in (-0.5, 0, 0.5) if a or b]
    points += list(zip(lat_deg, lng_deg, strict=True))
    assert all(density(*point) < highest + 1e-9 for point in points)


@pytest.fixture
def gallery(rng: np.random.Generator) -> tuple[Im2GPS, np.ndarray]:
    model = Im2GPS(build_backbone("mobilenet_0.25"), num_neighbours=5)
    features = rng.normal(size=(12, 256)).astype(np.float32)
    model.fill(torch.from_numpy(features[:7]), LAT_DEG[:7], LNG_DEG[:7])
    model.fill(torch.from_numpy(features[7:]), LAT_DEG[7:], LNG_DEG[7:])
    return model, features


def test_neighbours_equal_those_of_scikit_learn(gallery: tuple[Im2GPS, np.ndarray], rng: np.random.Generator) -> None:
    model, features = gallery
    queries = rng.normal(size=(4, 256)).astype(np.float32)
    found = model.from_features(torch.from_numpy(queries))
    distances, rows = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features).kneighbors(queries)
    np.testing.assert_allclose(found.similarities, 1 - distances, atol=1e-5)
    np.testing.assert_allclose(found.lat_deg, LAT_DEG[rows])
    np.testing.assert_allclose(found.lng_deg, LNG_DEG[rows])


def test_a_checkpoint_contains_the_gallery(gallery: tuple[Im2GPS, np.ndarray]) -> None:
    model, features = gallery
    again = Im2GPS(build_backbone("mobilenet_0.25"), num_neighbours=5)
    assert again.from_features(torch.from_numpy(features)).similarities.shape == (12, 0)
    again.load_state_dict(model.state_dict())
    first, second = (network.from_features(torch.from_numpy(features)) for network in (model, again))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(first.similarities[:, 0], torch.ones(12))  # each finds itself


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"features": torch.zeros(11, 256)}, r"expected \(photos, 256\) for this backbone"),
        ({"features": torch.zeros(12, 1024)}, r"has features \(12, 1024\) and places \(12, 2\), expected"),
        ({"features": torch.zeros(12, 256, dtype=torch.bool)}, "has features"),
        ({"places": torch.zeros(12, 3)}, r"places \(12, 3\)"),
        ({"places": torch.tensor(0.0)}, r"places \(\)"),
        ({"places": None}, "no gallery of features and places"),
        ({"features": None}, "no gallery of features and places"),
        ({"index": torch.zeros(4, dtype=torch.uint8)}, "of an earlier version; make it again"),
    ],
)
def test_a_gallery_that_does_not_fit_is_refused(
    gallery: tuple[Im2GPS, np.ndarray], state: dict[str, torch.Tensor | None], reason: str
) -> None:
    model, _ = gallery
    given = model.get_extra_state() | state
    with pytest.raises(ValueError, match=reason):
        model.set_extra_state({key: value for key, value in given.items() if value is not None})


def test_the_search_is_in_float32_under_autocast(gallery: tuple[Im2GPS, np.ndarray]) -> None:
    model, features = gallery
    expected = model.from_features(torch.from_numpy(features))
    with torch.autocast("cpu", torch.bfloat16):
        found = model.from_features(torch.from_numpy(features))
    assert torch.equal(found.similarities, expected.similarities)


@pytest.mark.parametrize("bandwidth_km", [None, 300.0, 20_000.0])
def test_predictor_finds_the_same_mode(bandwidth_km: float | None, rng: np.random.Generator) -> None:
    lat_deg, lng_deg, weights = rng.uniform(-80, 80, 300), rng.uniform(-180, 180, 300), rng.random(300)
    found = predictor.densest_point(weights, lat_deg, lng_deg, bandwidth_km)
    assert found == weighted_mode(lat_deg, lng_deg, weights, bandwidth_km)


def test_cell_probabilities_are_sums_of_neighbour_weights() -> None:
    (cells,) = towns(4)
    similarities = torch.tensor([[0.9, 0.85, 0.8]])
    outputs = NeighbourOutputs(
        similarities, torch.arange(3)[None], torch.tensor([[48.0, 50.0, 50.01]]), torch.tensor([[2.0, 9.0, 9.0]])
    )
    weights = functional.softmax(similarities[0] / TEMPERATURE, 0).numpy()
    (nearest,) = decode_neighbours(outputs, cells, bandwidth_km=None)
    assert (nearest.lat_deg, nearest.lng_deg) == (48, 2)
    cell_ids = cells.find(np.array([48.0, 50.0]), np.array([2.0, 9.0]))
    np.testing.assert_allclose(nearest.probabilities[cell_ids], [weights[0], weights[1] + weights[2]], atol=1e-6)
    assert nearest.probabilities.sum() == pytest.approx(1)


def test_an_exported_gallery_has_the_same_probabilities(gallery: tuple[Im2GPS, np.ndarray]) -> None:
    """Those of photos in no cell are left out, as from PyTorch."""
    model, features = gallery
    outputs = model.from_features(torch.from_numpy(features))
    (cells,) = towns(4)
    graph = neighbour_probabilities(model.lat_lng_deg, cells)
    session = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)]))
    values = session.run(None, {name: tensor.numpy() for name, tensor in outputs._asdict().items()})
    found = dict(zip(session.output_names, values, strict=True))
    for row, place in enumerate(decode_neighbours(outputs, cells, bandwidth_km=None)):
        np.testing.assert_allclose(found["probabilities"][row], place.probabilities, atol=1e-6)
        np.testing.assert_allclose(
            found["neighbour_weights"][row], functional.softmax(outputs.similarities[row] / TEMPERATURE, 0), atol=1e-6
        )
        assert (found["neighbour_lat_deg"][row, 0], found["neighbour_lng_deg"][row, 0]) == (
            place.lat_deg,
            place.lng_deg,
        )


def test_a_gallery_beyond_an_onnx_file_is_refused() -> None:
    class Large:
        gallery_bytes = 3_000_000_000

    with pytest.raises(
        ValueError, match=r"features of the gallery have 3\.0 GB, and an ONNX file holds 1\.8; index fewer"
    ):
        METHODS["retrieval"](GeolocationConfig()).postprocessing(Large(), towns(4))
