"""The cache of teacher outputs never returns a wrong entry, whatever happened to its files."""

import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from distill.cache import CHECKSUMS, OUTPUTS, OutputCache

DIGEST = b"pixels--"


def entry(value: int, num_values: int = 5) -> np.ndarray:
    return np.full(num_values, value, np.float16)


def test_entries_outlive_the_process(tmp_path: Path) -> None:
    OutputCache(tmp_path, 2, 3, 5).put(1, 2, DIGEST, entry(7))
    cache = OutputCache(tmp_path, 2, 3, 5)
    found = cache.get(1, 2, DIGEST)
    assert found is not None
    assert np.array_equal(found, entry(7))
    assert cache.get(0, 2, DIGEST) is None
    assert cache.get(1, 2, b"others--") is None, "the image or the augmentation has changed"


def test_a_partly_written_entry_is_a_miss(tmp_path: Path) -> None:
    OutputCache(tmp_path, 1, 1, 5).put(0, 0, DIGEST, entry(7))
    values = np.load(tmp_path / OUTPUTS, mmap_mode="r+")
    values[0, 0, 3] = 0
    values.flush()
    assert OutputCache(tmp_path, 1, 1, 5).get(0, 0, DIGEST) is None


def test_a_damaged_or_foreign_file_is_all_misses_and_is_refilled(tmp_path: Path) -> None:
    for damage in (b"", b"no array", None):
        OutputCache(tmp_path, 1, 2, 5).put(0, 1, DIGEST, entry(7))
        for name in (OUTPUTS, CHECKSUMS):
            path = tmp_path / name
            path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
        cache = OutputCache(tmp_path, 1, 2, 5)
        assert cache.get(0, 1, DIGEST) is None
        cache.put(0, 1, DIGEST, entry(7))
        assert np.load(tmp_path / OUTPUTS)[0, 1].tolist() == [7] * 5
        assert np.load(tmp_path / CHECKSUMS).shape == (1, 2)
    for num_views, num_images, num_values in ((1, 2, 6), (1, 3, 4), (2, 2, 7)):
        cache = OutputCache(tmp_path, num_views, num_images, num_values)
        assert all(cache.get(view, row, DIGEST) is None for view in range(num_views) for row in range(num_images))


def test_a_disk_that_is_too_small_is_reported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_free(num_bytes: int) -> None:
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - num_bytes, num_bytes)
        )

    set_free(2_900_000)
    with pytest.raises(
        ValueError, match=r"x: cannot cache the teacher outputs .* need 6\.0 MB more, and 2\.9 MB are free.*--views"
    ):
        OutputCache(tmp_path / "x", 2, 3, 500_000)
    assert not list((tmp_path / "x").iterdir()), "nothing was reserved"
    set_free(7_000_000)
    cache = OutputCache(tmp_path / "x", 2, 3, 500_000)
    for view, row in ((0, 0), (0, 1), (0, 2), (1, 0)):
        cache.put(view, row, DIGEST, entry(view + row, 500_000))
    set_free(2_900_000)  # the remaining entries still fit
    assert OutputCache(tmp_path / "x", 2, 3, 500_000).size_bytes == cache.size_bytes


def test_a_full_disk_is_an_error_and_leaves_no_entry(tmp_path: Path) -> None:
    cache = OutputCache(tmp_path, 2, 1, 4000)
    cache.put(0, 0, DIGEST, entry(7, 4000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (128 + 12_000, before[1])
    )  # as on a full disk, half of the entry is written
    try:
        with pytest.raises(
            ValueError,
            match=r"cannot cache the teacher outputs \(File too large\).*MB more.*`--views null`.*\$MOBILENET",
        ):
            cache.put(1, 0, DIGEST, entry(8, 4000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    written = np.load(tmp_path / OUTPUTS)[1, 0]
    assert 0 < (written == 8).sum() < 4000, "the disk was full in the middle"
    assert cache.get(1, 0, DIGEST) is None
    found = cache.get(0, 0, DIGEST)
    assert found is not None
    assert np.array_equal(found, entry(7, 4000))
    cache.put(1, 0, DIGEST, entry(8, 4000))
    assert cache.get(1, 0, DIGEST) is not None


def test_two_runs_fill_one_cache(tmp_path: Path) -> None:
    """Each finds the entries of the others, whichever opened the cache first, also from another process."""
    first = OutputCache(tmp_path, 2, 2, 5)
    first.put(0, 0, DIGEST, entry(1))
    second = OutputCache(tmp_path, 2, 2, 5)
    second.put(0, 1, DIGEST, entry(2))
    third = pickle.loads(pickle.dumps(first))
    third.put(1, 0, DIGEST, entry(3))
    for cache in (first, second, third):
        found = [cache.get(view, row, DIGEST) for view in range(2) for row in range(2)]
        assert [None if value is None else value.tolist() for value in found] == [[1] * 5, [2] * 5, [3] * 5, None]


def test_survives_sigkill(tmp_path: Path) -> None:
    program = """
        import itertools, sys
        import numpy as np
        from pathlib import Path
        from distill.cache import OutputCache
        cache = OutputCache(Path(sys.argv[1]), 4, 50, 4000)
        print("open", flush=True)
        for round in itertools.count():
            for view, row in itertools.product(range(4), range(50)):
                cache.put(view, row, b"pixels--", np.full(4000, view * 50 + row, np.float16))
    """
    for _ in range(5):
        command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        cache = OutputCache(tmp_path, 4, 50, 4000)
        found = {(view, row): cache.get(view, row, DIGEST) for view in range(4) for row in range(50)}
        assert any(value is not None for value in found.values())
        assert all(value is None or (value == view * 50 + row).all() for (view, row), value in found.items())
