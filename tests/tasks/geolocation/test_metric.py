"""Fractions, median and baseline against values by hand and against all haversine distances."""

import math
from pathlib import Path

import numpy as np
import pytest

from datasets.geolocation.sphere import distance_km
from datasets.images.read import read_image
from datasets.types import Place
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.metric import GeolocationMetric
from tasks.geolocation.task import GeolocationTask
from tests.tasks.conftest import build_config
from tests.tasks.laws import assert_merge_is_exact

KM = float(1 / distance_km(0, 0, 0, 1))  # degrees of longitude on the equator


def metric_of(*errors_km: float, candidates: tuple[float, ...] = (0.0,)) -> GeolocationMetric:
    metric = GeolocationMetric((1, 25, 200), (np.zeros(len(candidates)), np.array(candidates)))
    for km in errors_km:
        metric.update([Place(0, km * KM)], [Place(0, 0)])
    return metric


def test_fractions_and_median() -> None:
    scores = metric_of(0.5, 20, 30, 190, 5000).compute()
    assert [scores[f"within_{t}km"] for t in (1, 25, 200)] == [0.2, 0.4, 0.8]
    assert scores["median_km"] == pytest.approx(30)


def test_the_best_constant_prediction_is_chosen_for_each_score() -> None:
    """Truths 0, 0.5, 100, 100.5 and 100.9 km east, candidates at 0 and 100 km and in between."""
    metric = GeolocationMetric((1, 60), (np.zeros(3), np.array([0, 100, 50.5]) * KM))
    truth = [Place(0, km * KM) for km in (0, 0.5, 100, 100.5, 100.9)]
    metric.update([Place(0, 90)] * 5, truth)
    scores = metric.compute()
    assert scores["within_1km"] == 0
    assert scores["constant_within_1km"] == pytest.approx(3 / 5)  # at 100 km
    assert scores["constant_within_60km"] == 1  # at 50.5 km
    assert scores["constant_median_km"] == pytest.approx(0.9, abs=1e-6)


def test_scores_without_photos_or_candidates_are_nan() -> None:
    assert all(map(math.isnan, metric_of().compute().values()))
    assert math.isnan(metric_of(3, candidates=()).compute()["constant_within_1km"])


def test_plots_the_fraction_within_every_distance(tmp_path: Path) -> None:
    metric_of(0.5, 20, 3000).write_details(tmp_path)
    assert read_image(tmp_path / "distances.png").std() > 5


def random_coordinates(rng: np.random.Generator, num_photos: int, spread_deg: float) -> np.ndarray:
    """(num_photos, 2) latitudes and longitudes around a town on the antimeridian, or anywhere if the spread is wide."""
    lat_deg = np.clip(-17 + rng.normal(0, spread_deg / 2, num_photos), -90, 90)
    lng_deg = (180 + rng.normal(0, spread_deg, num_photos) + 180) % 360 - 180
    return np.stack([lat_deg, lng_deg], 1)


@pytest.mark.parametrize("spread_deg", [0.05, 3, 90])
@pytest.mark.parametrize("num_photos", [1, 2, 3, 8, 9, 40, 41])
def test_the_baseline_equals_that_of_all_haversine_distances(num_photos: int, spread_deg: float) -> None:
    """For an even number of photos the median is between two distances."""
    rng = np.random.default_rng(num_photos)
    thresholds_km = (0.2, 1, 5, 25, 200, 750, 2500, 12000)
    truth, candidates = random_coordinates(rng, num_photos, spread_deg), random_coordinates(rng, 30, spread_deg)
    metric = GeolocationMetric(thresholds_km, (candidates[:, 0], candidates[:, 1]))
    places = [Place(lat, lng) for lat, lng in truth.tolist()]
    metric.update(places, places)
    scores = metric.compute()
    distances = np.stack([distance_km(*candidate, *truth.T) for candidate in candidates])  # (candidates, photos)
    for km in thresholds_km:
        assert scores[f"constant_within_{km:g}km"] == pytest.approx((distances <= km).mean(1).max(), rel=1e-6)
    assert scores["constant_median_km"] == pytest.approx(np.median(distances, 1).min(), rel=1e-6)


def test_merging_is_exact(rng: np.random.Generator) -> None:
    predicted, truth, candidates = (random_coordinates(rng, num_photos, 3) for num_photos in (61, 61, 20))
    assert_merge_is_exact(
        lambda: GeolocationMetric((1, 25, 200), (candidates[:, 0], candidates[:, 1])),
        *([Place(lat, lng) for lat, lng in coordinates.tolist()] for coordinates in (predicted, truth)),
    )


@pytest.mark.data
def test_baseline_of_the_webcams_equals_the_reference(shared: Path) -> None:
    """.04/.12/.27/.71 from an independent computation."""
    data = {"root": str(shared / "data" / "geo"), "csv": "webcams.csv", "images": "webcams"}
    config = build_config(GeolocationConfig, data=data, cells={"max_photos": [20], "min_photos": 3})
    task = GeolocationTask.from_data(config)
    metric, source = task.metric(), task.source("val")
    truth = [source.truth(row) for row in range(len(source))]
    metric.update(truth, truth)
    scores = metric.compute()
    constant = [scores[f"constant_within_{t}km"] for t in (1, 25, 200, 750, 2500)]
    assert constant == pytest.approx([0, 0.04, 0.12, 0.27, 0.71])
