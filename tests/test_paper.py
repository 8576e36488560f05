"""Computed mult-adds and parameters against the paper's tables, read from results/paper.csv."""

import csv
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from backbone import Classifier, build_backbone, count_cost, parse_name
from backbone.cost import Cost
from tasks.attributes import AttributesConfig, AttributesTask
from tasks.common.config import BackboneConfig
from tasks.detection import DetectionConfig, DetectionTask
from tasks.detection.config import DetectionDataConfig
from tasks.embedding import EmbeddingConfig, EmbeddingTask
from tasks.geolocation import GeolocationConfig, GeolocationTask

PAPER = Path(__file__).resolve().parents[1] / "results" / "paper.csv"
NAMES = {
    "conv mobilenet": "mobilenet_1.0_conv",
    "shallow mobilenet": "mobilenet_1.0_shallow",
    "mobilenet": "mobilenet_1.0",
}

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
    readme = (PAPER.parents[1] / "README.md").read_text()
    for width in WIDTHS:
        costs = [cost_of(f"mobilenet_{width}_{size}") for size in (224, 192, 160, 128)]
        millions = " | ".join(f"{cost.mult_adds / 1e6:.2f}" for cost in costs)
        assert f"| mobilenet_{width} | {millions} | {costs[0].num_params:,} |" in readme


def paper_rows(tables: set[str]) -> list[dict[str, str]]:
    with PAPER.open() as file:
        return [row for row in csv.DictReader(file) if row["table"] in tables and "mobilenet" in row["row"]]


def kernel_params(cost: Cost) -> int:
    """Parameters as the paper counts them: without batch normalisation."""
    return cost.num_params - cost.by_layer_type["batch norm"][1]


@pytest.mark.parametrize(
    "row",
    [row for row in paper_rows({"4", "5", "6", "7", "8", "9"}) if row["quantity"] in ("mult_adds", "params")],
    ids=lambda row: "-".join((row["table"], row["row"], row["quantity"])),
)
def test_tables_4_to_9(row: dict[str, str]) -> None:
    """Parameters are rounded in print; mult-adds now rounded, now truncated, and 4866 is printed for 4867.3."""
    cost, printed = cost_of(NAMES.get(row["row"], row["row"])), float(row["value"])
    if row["quantity"] == "params":
        last_digit = 10.0 ** -len(row["value"].partition(".")[2])
        assert kernel_params(cost) / 1e6 == pytest.approx(printed, abs=last_digit / 2)
    else:
        assert cost.mult_adds / 1e6 == pytest.approx(printed, abs=max(1, 0.0003 * printed))


def test_table_2_shares() -> None:
    """Mult-adds and kernels by layer type, in percent."""
    cost = cost_of("mobilenet_1.0")
    bias = 1000  # of the classifier: not in the paper's count
    with PAPER.open() as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "2"]
    assert len(rows) == 8
    for row in rows:
        mult_adds, num_params = cost.by_layer_type[row["row"]]
        if row["row"] == "fully connected":
            num_params -= bias
        if row["quantity"] == "mult_adds_share":
            share = mult_adds / cost.mult_adds
        else:
            share = num_params / (kernel_params(cost) - bias)
        printed = {"1.19": 1.91}.get(row["value"], float(row["value"]))  # digits swapped in print, see its note
        assert 100 * share == pytest.approx(printed, abs=0.006), row


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
    row = f"{model}_{input_size} mobilenet"
    printed = {r["quantity"]: float(r["value"]) * 1e6 for r in paper_rows({"13"}) if r["row"] == row}
    assert cost.mult_adds == pytest.approx(printed["mult_adds"], rel=0.04)  # 1.2 B is all that is printed of SSD's
    assert cost.num_params == pytest.approx(printed["params"], abs=0.05e6)


@pytest.mark.parametrize(
    ("table", "task", "config_class"),
    [("12", AttributesTask, AttributesConfig), ("14", EmbeddingTask, EmbeddingConfig)],
)
def test_tables_12_and_14_faces(table: str, task: Any, config_class: Any) -> None:
    """40 attributes, 128-d embeddings; results/paper.csv notes what the paper prints otherwise than it counts."""
    printed: dict[str, dict[str, tuple[float, str]]] = {}
    for row in paper_rows({table}):
        printed.setdefault(row["row"], {})[row["quantity"]] = float(row["value"]), row["note"]
    assert len(printed) == {"12": 6, "14": 4}[table]
    for name, quantities in printed.items():
        parsed = parse_name(name)
        data = type(config_class().data)(input_size=parsed.input_size)
        config = config_class(backbone=BackboneConfig(name=name), data=data)
        network = task.with_num_classes(config, None).build_model()
        cost = count_cost(network, torch.zeros(1, 3, parsed.input_size, parsed.input_size, dtype=torch.uint8))
        mult_adds, note = quantities["mult_adds"]
        if note.startswith("the count is "):
            mult_adds = float(note.removeprefix("the count is "))
        assert cost.mult_adds / 1e6 == pytest.approx(mult_adds, abs=1), name
        num_params, note = quantities["params"]
        if table == "12":
            assert cost.num_params / 1e6 == pytest.approx(num_params, abs=0.05), name
        else:  # no size of one linear layer gives all four
            assert note
            assert cost.num_params / 1e6 < num_params


def test_table_11_planet() -> None:
    """Section 4.4: 13 M parameters, about 3 M of the body and 10 M of the head; 0.58 "Million" is billion mult-adds."""
    network = GeolocationTask.with_num_classes(GeolocationConfig(), None).build_model()
    cost = count_cost(network, torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    head = sum(parameter.numel() for parameter in network.head.parameters())
    printed = {r["quantity"]: float(r["value"]) * 1e6 for r in paper_rows({"11"}) if r["row"] == "planet mobilenet"}
    assert cost.num_params == pytest.approx(printed["params"], abs=0.5e6)
    assert (cost.num_params - head) / 1e6 == pytest.approx(3.2, abs=0.05)
    assert head / 1e6 == pytest.approx(10, abs=0.5)
    assert cost.mult_adds == pytest.approx(printed["mult_adds"], rel=0.01)
