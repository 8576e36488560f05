"""Shares, median and baseline by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from datasets.images import read_image
from datasets.sphere import distance_km
from datasets.types import Place
from tasks.geolocation import GeolocationConfig, GeolocationTask
from tasks.geolocation.metric import GeolocationMetric
from tests.tasks.conftest import build_config

KM = float(1 / distance_km(0, 0, 0, 1))  # degrees of longitude on the equator


def metric_of(*away_km: float, guesses: tuple[float, ...] = (0.0,)) -> GeolocationMetric:
    metric = GeolocationMetric((1, 25, 200), (np.zeros(len(guesses)), np.array(guesses)))
    for km in away_km:
        metric.update([Place(0, km * KM)], [Place(0, 0)])
    return metric


def test_shares_and_median() -> None:
    scores = metric_of(0.5, 20, 30, 190, 5000).compute()
    assert [scores[f"within_{t}km"] for t in (1, 25, 200)] == [0.2, 0.4, 0.8]
    assert scores["median_km"] == pytest.approx(30)


def test_the_best_constant_guess_is_chosen_for_each_number() -> None:
    """Truths at 0, 0.5, 100 and 100.5 and 101 km east, guesses at 0 and at 100 km, and one in between."""
    metric = GeolocationMetric((1, 60), (np.zeros(3), np.array([0, 100, 50.5]) * KM))
    truth = [Place(0, km * KM) for km in (0, 0.5, 100, 100.5, 100.9)]
    metric.update([Place(0, 90)] * 5, truth)
    scores = metric.compute()
    assert scores["within_1km"] == 0
    assert scores["constant_within_1km"] == pytest.approx(3 / 5)  # at 100 km
    assert scores["constant_within_60km"] == 1  # in between
    assert scores["constant_median_km"] == pytest.approx(0.9, abs=1e-6)


def test_nothing_taken_in_is_not_a_score() -> None:
    assert all(map(math.isnan, metric_of().compute().values()))
    assert math.isnan(metric_of(3, guesses=()).compute()["constant_within_1km"])


def test_draws_the_share_within_every_distance(tmp_path: Path) -> None:
    metric_of(0.5, 20, 3000).write_details(tmp_path)
    assert read_image(tmp_path / "distances.png").std() > 5


@pytest.mark.data
def test_baseline_of_the_webcams_is_the_reference(shared: Path) -> None:
    """.04/.12/.27/.71, stated by whoever asked for this, from a computation of their own."""
    data = {"root": str(shared / "data" / "geo"), "csv": "webcams.csv", "images": "webcams"}
    config = build_config(GeolocationConfig, data=data, cells={"max_photos": [20], "min_photos": 3})
    task = GeolocationTask.from_data(config)
    metric, source = task.metric(), task.source("val")
    truth = [source.truth(row) for row in range(len(source))]
    metric.update(truth, truth)
    scores = metric.compute()
    constant = [scores[f"constant_within_{t}km"] for t in (1, 25, 200, 750, 2500)]
    assert constant == pytest.approx([0, 0.04, 0.12, 0.27, 0.71])
