"""CSV files keep the bytes of names and enough digits of numbers."""

import csv
import math
import os
from pathlib import Path

import pytest

from tasks.common.evaluation.report import write_csv


def read_back(path: Path, value: object) -> str:
    write_csv(path, [{"value": value}])
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return next(csv.DictReader(file))["value"]


@pytest.mark.parametrize("name", ["café.jpg".encode(), b"caf\xe9.jpg", '写真, "1".jpg'.encode()])
def test_names_keep_their_bytes(name: bytes, tmp_path: Path) -> None:
    written = read_back(tmp_path / "a.csv", os.fsdecode(name))
    assert os.fsencode(written) == name
    quoted = name.replace(b'"', b'""')
    assert quoted in (tmp_path / "a.csv").read_bytes(), "plain UTF-8, for other programs"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (4.4e-7, "4.4e-07"),
        (1.23456789e-5, "1.23457e-05"),
        (0.123456, "0.123456"),
        (0.1234564, "0.123456"),
        (0.0123456, "0.0123456"),
        (1234.567891, "1234.567891"),
        (-56789.1234564, "-56789.123456"),
        (2.0, "2.0"),
        (0.0, "0.0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (7, "7"),
    ],
)
def test_numbers_keep_six_decimals_and_six_significant_digits(value: float, written: str, tmp_path: Path) -> None:
    assert read_back(tmp_path / "a.csv", value) == written


def test_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"a": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "a,b\n1,\n2,3\n"
