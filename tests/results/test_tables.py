"""The paper's tables: all printed numbers are there, and our counts equal them or have a note."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from results import cli, measured
from results.costs import count
from results.measured import find, read_measured, value_of
from results.paper import PAPER, TITLES, PaperCell, read_paper
from results.render import as_json, as_markdown
from results.tables import Cell, build_tables, is_within_rounding


@pytest.fixture(scope="module")
def tables() -> dict[str, list[Cell]]:
    return build_tables(read_paper(), [])


def test_every_table_has_a_title(tables: dict[str, list[Cell]]) -> None:
    assert list(TITLES) == sorted(tables, key=int)
    assert sum(map(len, tables.values())) == len(PAPER.read_text().splitlines()) - 1


def test_each_count_is_within_rounding_or_explained(tables: dict[str, list[Cell]]) -> None:
    beyond = [cell for cells in tables.values() for cell in cells if not is_within_rounding(cell)]
    assert 0 < len(beyond) < 20
    assert [cell.paper for cell in beyond if not cell.paper.note] == []


def test_notes_state_the_count(tables: dict[str, list[Cell]]) -> None:
    """A count stated in a note is the network's, rounded."""
    stated = 0
    for cell in (cell for cells in tables.values() for cell in cells if cell.ours is not None):
        for number in re.findall(r"the count is ([\d.]+\d)", cell.paper.note):
            stated += 1
            last_digit = 10.0 ** -len(number.partition(".")[2])
            tolerance = 5 if float(number) > 10_000 else 0.51 * last_digit
            assert cell.ours == pytest.approx(float(number), abs=tolerance), cell.paper
    assert stated > 8


def test_all_of_our_networks_are_counted(tables: dict[str, list[Cell]]) -> None:
    for cells in tables.values():
        for cell in cells:
            ours = "mobilenet" in cell.paper.row or cell.paper.table in ("2", "3")
            if ours and cell.paper.unit == "million":
                assert cell.source == "computed", cell.paper


def test_hand_arithmetic() -> None:
    """Howard et al. 2017, section 3.1: D_K^2 M N D_F^2, and D_K^2 M D_F^2 + M N D_F^2."""
    assert count("3", "convolution", "mult_adds") == 9 * 512 * 512 * 14 * 14 / 1e6
    assert count("3", "depthwise separable", "mult_adds") == (9 * 512 + 512 * 512) * 14 * 14 / 1e6
    assert count("3", "rho=0.714", "params") == (9 * 384 + 384 * 384) / 1e6
    assert count("6", "mobilenet_1.0_224", "top1") is None


def test_layers_that_the_paper_leaves_out() -> None:
    """Two notes state the layers without which our count is the printed one."""
    vgg_linear = (512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000) / 1e6
    assert (count("8", "vgg16", "mult_adds") or 0) - vgg_linear == pytest.approx(15347, abs=0.5)
    assert (count("4", "conv mobilenet", "mult_adds") or 0) - 1024 * 1000 / 1e6 == pytest.approx(4866.3, abs=0.05)


@pytest.mark.parametrize(
    ("value", "ours", "holds"),
    [
        (4.2, 4.25, True),
        (4.2, 4.31, False),
        (569, 568.74, True),
        (149, 149.9, True),
        (149, 150.1, False),
        (1200, 1237, True),
        (1200, 1301, False),
        (60, 61.1, True),
    ],
)
def test_rounding(value: float, ours: float, holds: bool) -> None:
    cell = PaperCell("6", "row", "params", value, "million", "")
    assert is_within_rounding(Cell(cell, ours, "computed")) is holds


def test_numbers_come_from_paper_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """No number of a table is in the code."""
    other = tmp_path / "paper.csv"
    changed = PAPER.read_text().replace("6,mobilenet_0.5_224,mult_adds,149,", "6,mobilenet_0.5_224,mult_adds,123.25,")
    other.write_text(changed)
    monkeypatch.setattr("results.paper.read_paper.__defaults__", (other,))
    assert cli.main(["6", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["tables"]["6"]["cells"]
    (cell,) = (cell for cell in cells if cell["row"] == "mobilenet_0.5_224" and cell["quantity"] == "mult_adds")
    assert cell["paper"] == 123.25
    assert cell["ours"] == pytest.approx(149.50, abs=0.005)
    assert cell["gap"] == pytest.approx((149.50 - 123.25) / 123.25, abs=1e-4)


def test_readme_is_what_the_command_writes() -> None:
    """Update it with: python -m results --write."""
    written = cli.README.read_text().partition(cli.MARKER)[2]
    assert written == "\n" + as_markdown(build_tables(read_paper(), read_measured()))


def test_measurements_find_their_cell_and_name_their_data(tmp_path: Path) -> None:
    def record_of(task: str, data: str, metrics: dict[str, Any], **settings: Any) -> dict[str, Any]:
        named = {key.replace("__", "."): value for key, value in settings.items()}
        return {"task": task, "data": data, "split": "val", "metrics": metrics, "settings": named}

    top1 = {"top1": 0.68, "num_images": 500}
    small = {"backbone__name": "mobilenet_0.5", "data__input_size": 160}
    large = {"backbone__name": "mobilenet_1.0_224", "data__input_size": 224}
    record = record_of("classification", "imagenet_sample", top1, **small)
    dogs = record_of("classification", "stanford_dogs", top1, **large)
    places = {"within_750km": 0.55, "num_images": 100}
    planet = record_of("geolocation", "geo", places, method="classification", **large)
    neighbours = record_of("geolocation", "geo", places, method="retrieval", **large)
    boxes = {"AP": 0.2, "num_images": 128}
    ssd = record_of("detection", "coco128", boxes, model="ssd", backbone__name="mobilenet_1.0", data__input_size=300)
    thin = record_of("detection", "coco128", boxes, model="ssd", backbone__name="mobilenet_0.5", data__input_size=300)
    path = tmp_path / "measured.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (record, dogs, planet, neighbours, ssd, thin)))
    records = read_measured(path)

    cells = [cell for cell in read_paper() if find(records, cell) is not None]
    assert [(cell.table, cell.row, cell.quantity) for cell in cells] == [
        ("9", "mobilenet_0.5_160", "top1"),
        ("10", "mobilenet_1.0_224", "top1"),
        ("11", "planet mobilenet", "within_750km"),
        ("13", "ssd_300 mobilenet", "map"),
    ]
    assert [value_of(find(records, cell) or {}, cell) for cell in cells] == pytest.approx([68, 68, 55, 20])
    assert find(records, cells[2]) == planet
    shown = build_tables(cells, records)
    assert all(cell.gap is None for table in shown.values() for cell in table), "no gap between different data"
    assert "| (68.00) |  | other data: imagenet_sample, 500 images of val |" in as_markdown(shown)
    (ours,) = as_json(shown)["tables"]["9"]["cells"]
    assert (ours["source"], ours["provenance"]) == ("measured", record)


@pytest.mark.parametrize("line", ["no json", "[1]", '{"task": "detection"}'])
def test_a_faulty_record_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"measured.jsonl: line 1: "):
        read_measured(path)
    assert measured.read_measured(tmp_path / "none.jsonl") == []


def test_unknown_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["15"]) == 2
    assert "there is no table '15'; expected 2, 3, 4" in capsys.readouterr().err
