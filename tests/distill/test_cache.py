"""The cache of answers: nothing false comes out, whatever happened to it."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np

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
    values = np.lib.format.open_memmap(tmp_path / ANSWERS, mode="r+")
    values[0, 0, 3] = 0
    values.flush()
    assert AnswerCache(tmp_path, 1, 1, 5).find(0, 0, DIGEST) is None


def test_a_damaged_or_other_file_is_made_anew(tmp_path: Path) -> None:
    for damage in (b"", b"no array", None):
        AnswerCache(tmp_path, 1, 2, 5).keep(0, 1, DIGEST, answer(7))
        for name in (ANSWERS, CHECKS):
            path = tmp_path / name
            path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
        assert AnswerCache(tmp_path, 1, 2, 5).find(0, 1, DIGEST) is None
    AnswerCache(tmp_path, 1, 2, 5).keep(0, 1, DIGEST, answer(7))
    assert AnswerCache(tmp_path, 2, 2, 5).find(0, 1, DIGEST) is None


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
