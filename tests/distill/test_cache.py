"""The cache of answers: nothing false comes out, whatever happened to it."""

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

from distill.cache import ANSWERS, CHECKS, AnswerCache

DIGEST = b"pixels--"


def answer(number: int, num_values: int = 5) -> np.ndarray:
    return np.full(num_values, number, np.float16)


def test_keeps_for_the_next_process(tmp_path: Path) -> None:
    AnswerCache(tmp_path, 2, 3, 5).keep(1, 2, DIGEST, answer(7))
    cache = AnswerCache(tmp_path, 2, 3, 5)
    found = cache.find(1, 2, DIGEST)
    assert found is not None
    assert np.array_equal(found, answer(7))
    assert cache.find(0, 2, DIGEST) is None
    assert cache.find(1, 2, b"others--") is None, "the image or the augmentation has changed"


def test_what_was_not_written_whole_is_a_miss(tmp_path: Path) -> None:
    AnswerCache(tmp_path, 1, 1, 5).keep(0, 0, DIGEST, answer(7))
    values = np.load(tmp_path / ANSWERS, mmap_mode="r+")
    values[0, 0, 3] = 0
    values.flush()
    assert AnswerCache(tmp_path, 1, 1, 5).find(0, 0, DIGEST) is None


def test_a_damaged_or_other_file_gives_nothing_and_is_filled_again(tmp_path: Path) -> None:
    for damage in (b"", b"no array", None):
        AnswerCache(tmp_path, 1, 2, 5).keep(0, 1, DIGEST, answer(7))
        for name in (ANSWERS, CHECKS):
            path = tmp_path / name
            path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
        cache = AnswerCache(tmp_path, 1, 2, 5)
        assert cache.find(0, 1, DIGEST) is None
        cache.keep(0, 1, DIGEST, answer(7))
        assert np.load(tmp_path / ANSWERS)[0, 1].tolist() == [7] * 5
        assert np.load(tmp_path / CHECKS).shape == (1, 2)
    for num_views, num_images, num_values in ((1, 2, 6), (1, 3, 4), (2, 2, 7)):
        cache = AnswerCache(tmp_path, num_views, num_images, num_values)
        assert all(cache.find(view, row, DIGEST) is None for view in range(num_views) for row in range(num_images))


def test_a_disk_that_is_too_small_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(number: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - number, number))

    free(2_900_000)
    with pytest.raises(
        ValueError, match=r"x: the teacher's answers cannot be kept .* need 6\.0 MB more, and 2\.9 MB are free.*--views"
    ):
        AnswerCache(tmp_path / "x", 2, 3, 500_000)
    assert not list((tmp_path / "x").iterdir()), "nothing was reserved"
    free(7_000_000)
    cache = AnswerCache(tmp_path / "x", 2, 3, 500_000)
    for view, row in ((0, 0), (0, 1), (0, 2), (1, 0)):
        cache.keep(view, row, DIGEST, answer(view + row, 500_000))
    free(2_900_000)  # the rest still has room
    assert AnswerCache(tmp_path / "x", 2, 3, 500_000).size_bytes == cache.size_bytes


def test_a_full_disk_is_an_error_and_no_answer(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, 2, 1, 4000)
    cache.keep(0, 0, DIGEST, answer(7, 4000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 12_000, before[1]))  # as on a full disk, half of it is written
    try:
        with pytest.raises(
            ValueError, match=r"cannot be kept \(File too large\).*MB more.*`--views null`.*\$MOBILENET"
        ):
            cache.keep(1, 0, DIGEST, answer(8, 4000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    written = np.load(tmp_path / ANSWERS)[1, 0]
    assert 0 < (written == 8).sum() < 4000, "the disk was full in the middle"
    assert cache.find(1, 0, DIGEST) is None
    found = cache.find(0, 0, DIGEST)
    assert found is not None
    assert np.array_equal(found, answer(7, 4000))
    cache.keep(1, 0, DIGEST, answer(8, 4000))
    assert cache.find(1, 0, DIGEST) is not None


def test_two_runs_fill_one_cache(tmp_path: Path) -> None:
    """Each finds what the other one has kept, whoever opened it first, and in whatever process."""
    first = AnswerCache(tmp_path, 2, 2, 5)
    first.keep(0, 0, DIGEST, answer(1))
    second = AnswerCache(tmp_path, 2, 2, 5)
    second.keep(0, 1, DIGEST, answer(2))
    third = pickle.loads(pickle.dumps(first))
    third.keep(1, 0, DIGEST, answer(3))
    for cache in (first, second, third):
        found = [cache.find(view, row, DIGEST) for view in range(2) for row in range(2)]
        assert [None if value is None else value.tolist() for value in found] == [[1] * 5, [2] * 5, [3] * 5, None]


def test_survives_being_killed(tmp_path: Path) -> None:
    program = """
        import itertools, sys
        import numpy as np
        from pathlib import Path
        from distill.cache import AnswerCache
        cache = AnswerCache(Path(sys.argv[1]), 4, 50, 4000)
        print("open", flush=True)
        for round in itertools.count():
            for view, row in itertools.product(range(4), range(50)):
                cache.keep(view, row, b"pixels--", np.full(4000, view * 50 + row, np.float16))
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
        cache = AnswerCache(tmp_path, 4, 50, 4000)
        found = {(view, row): cache.find(view, row, DIGEST) for view in range(4) for row in range(50)}
        assert any(value is not None for value in found.values())
        assert all(value is None or (value == view * 50 + row).all() for (view, row), value in found.items())
