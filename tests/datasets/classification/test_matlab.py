"""MATLAB files: the same arrays as SciPy, compressed or not, in both byte orders; damaged ones are errors."""

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datasets.classification.matlab import read_matlab

NAMES = ["n1-a/1.jpg", "n1-a/x.jpg", "n2-b/caf\u00e9.jpg"]


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i2", "u2", "i4", "i8"])
def test_the_same_arrays_as_scipy_has_written(is_compressed: bool, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    numbers = np.array([[1], [2], [100]], dtype)
    content = {"file_list": np.array([[name] for name in NAMES], object), "labels": numbers, "x": {"a": 1}}
    scipy.io.savemat(path, content, do_compression=is_compressed)
    found = read_matlab(path)
    assert found["file_list"] == NAMES
    np.testing.assert_array_equal(found["labels"], numbers.ravel())


def test_other_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"labels": np.arange(3.0)})
    data = path.read_bytes()
    for content in (b"", b"text", data[:150], data[:-9], data + b"\1"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a MATLAB file|damaged"):
            read_matlab(path)


@pytest.mark.parametrize("num_missing", [1, 4, 9])
def test_compressed_data_that_end_too_early_are_damaged(num_missing: int, tmp_path: Path) -> None:
    """Also if only bytes of the checksum at their end are missing."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"labels": np.arange(3.0)}, do_compression=True)
    data = path.read_bytes()
    size = len(data) - 136 - num_missing
    path.write_bytes(data[:132] + struct.pack("<I", size) + data[136 : 136 + size])
    with pytest.raises(ValueError, match="damaged compressed data"):
        read_matlab(path)


@pytest.mark.data
def test_the_lists_of_stanford_dogs_are_those_that_scipy_reads(shared: Path) -> None:
    for name in ("train_list.mat", "test_list.mat"):
        path = shared / "data" / "stanford_dogs" / name
        found, expected = read_matlab(path), scipy.io.loadmat(path)
        assert found["file_list"] == [str(cell.item()) for cell in expected["file_list"].ravel()]
        np.testing.assert_array_equal(found["labels"], expected["labels"].ravel())
