"""Counts beyond the digits that the paper prints; tests/results/test_tables.py has those that it does."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from backbone.base import Classifier
from backbone.build import build_backbone
from backbone.cost import Cost, count_cost
from backbone.names import parse_name
from tasks.detection.config import DetectionConfig, DetectionDataConfig
from tasks.detection.task import DetectionTask
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.task import GeolocationTask

REPOSITORY = Path(__file__).resolve().parents[1]
# Millions at 224, 192, 160, 128 px (convolutions and the classifier), and parameters with a 1000-class head.
WIDTHS = {
    1.0: ((568.74, 418.12, 290.68, 186.40), 4_231_976),
    0.75: ((325.40, 239.27, 166.40, 106.77), 2_585_560),
    0.5: ((149.50, 109.97, 76.52, 49.16), 1_331_592),
    0.25: ((41.03, 30.21, 21.06, 13.57), 470_072),
}


def cost_of(name: str, *, input_size: int | None = None, num_classes: int = 1000) -> Cost:
    size = input_size or parse_name(name).input_size or 224
    with torch.device("meta"):
        model = Classifier(build_backbone(name), num_classes)
        return count_cost(model, torch.zeros(1, 3, size, size, dtype=torch.uint8))


@pytest.mark.parametrize("width", WIDTHS)
def test_width_times_resolution(width: float) -> None:
    millions, num_params = WIDTHS[width]
    for size, expected in zip((224, 192, 160, 128), millions, strict=True):
        cost = cost_of(f"mobilenet_{width}_{size}")
        assert cost.mult_adds / 1e6 == pytest.approx(expected, abs=0.005)
        assert cost.num_params == num_params


def test_readme_states_the_computed_numbers() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for width in WIDTHS:
        costs = [cost_of(f"mobilenet_{width}_{size}") for size in (224, 192, 160, 128)]
        millions = " | ".join(f"{cost.mult_adds / 1e6:.2f}" for cost in costs)
        assert f"| mobilenet_{width} | {millions} | {costs[0].num_params:,} |" in readme


def test_table_10_stanford_dogs_head() -> None:
    cost = cost_of("mobilenet_1.0", num_classes=120)
    assert cost.mult_adds / 1e6 == pytest.approx(567.84, abs=0.005)
    assert cost.num_params / 1e6 == pytest.approx(3.33, abs=0.005)


@pytest.mark.parametrize(
    ("model", "input_size", "mult_adds", "num_params"),
    [("ssd", 300, 1.237e9, 6.82e6), ("faster_rcnn", 300, 25.2e9, 6.06e6), ("faster_rcnn", 600, 30.5e9, 6.06e6)],
)
def test_table_13(model: Literal["ssd", "faster_rcnn"], input_size: int, mult_adds: float, num_params: float) -> None:
    """91 outputs: 90 classes and background; 300 proposals."""
    config = DetectionConfig(model=model, data=DetectionDataConfig(input_size=input_size))
    network = DetectionTask.with_num_classes(config, None).build_model()
    cost = count_cost(network, torch.zeros(1, 3, input_size, input_size, dtype=torch.uint8))
    assert cost.mult_adds == pytest.approx(mult_adds, rel=0.002)
    assert cost.num_params == pytest.approx(num_params, rel=0.001)


def test_table_11_planet() -> None:
    """Section 4.4: 13 M parameters, about 3 M of the body and 10 M of the head; 0.58 "Million" is billion mult-adds."""
    network = GeolocationTask.with_num_classes(GeolocationConfig(), None).build_model()
    cost = count_cost(network, torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    head = sum(parameter.numel() for parameter in network.head.parameters())
    assert (cost.num_params - head) / 1e6 == pytest.approx(3.2, abs=0.05)
    assert head / 1e6 == pytest.approx(10, abs=0.5)
