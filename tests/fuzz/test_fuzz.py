"""Whatever is done to a file, its reader reads it or says in a line what is wrong with it, see `harness.py`.

`FUZZ_CASES=10000 python -m pytest -m fuzz` is the campaign; the ordinary suite runs a few cases of each reader.
"""

import mmap
import os
import re
import signal
import tempfile

import pytest

from tests.fuzz.harness import NEEDS_PROC, Reader, run_cases
from tests.fuzz.readers import READERS, build_reader

pytestmark = NEEDS_PROC
NUM_CASES = int(os.environ.get("FUZZ_CASES", "500"))
FIRST_CASE = int(os.environ.get("FUZZ_FIRST", "0"))


@pytest.mark.fuzz
@pytest.mark.parametrize("name", READERS)
def test_campaign(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_cases(name, build_reader(name), FIRST_CASE, FIRST_CASE + NUM_CASES)
    with capsys.disabled():
        print(f"\n{name}: {found}")
    assert not found.failures, "\n\n".join(f"case {case}: {text}" for case, text in found.failures)


@pytest.mark.parametrize("name", READERS)
def test_intact_files_are_read_and_damaged_ones_named(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    reader = build_reader(name)
    root = tmp_path_factory.mktemp(name)
    for file, content in reader.files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    reader.read(root)  # else the cases would be of errors alone
    found = run_cases(name, reader, 0, 5)
    assert not found.failures, found.failures[0][1]


def take(num_bytes: int) -> None:
    """Use fresh memory; malloc may have some that the process already has."""
    with mmap.mmap(-1, num_bytes) as memory:
        for position in range(0, num_bytes, mmap.PAGESIZE):
            memory[position] = 1


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (lambda root: {}["x"], "KeyError"),
        (lambda root: int("x"), "invalid literal"),  # a ValueError without the file
        (lambda root: os.kill(os.getpid(), signal.SIGKILL), "signal 9"),
        (lambda root: take(10**8), r"\d+ MB"),
        (lambda root: tempfile.mkstemp(), "it left"),
        (lambda root: (root.parent / "x").write_bytes(b""), "^it opened"),
        (lambda root: (root.parent / "secret").read_bytes(), "^it opened"),  # one of those around
        (lambda root: open(f"{root}x", "rb"), "^it opened"),  # noqa: PTH123, SIM115
        (lambda root: open("/root/x", "rb"), "^it opened"),  # noqa: PTH123, SIM115
        (lambda root: list(root.parent.iterdir()), "^it opened"),
        (lambda root: list(os.scandir("/")), "^it opened"),
    ],
)
def test_what_breaks_the_law_is_found(read: object, wrong: str) -> None:
    found = run_cases("law", Reader({"a": b"1"}, read, max_bytes=5 * 10**7, around={"secret": b"1"}), 0, 1)  # type: ignore[arg-type]
    assert re.search(wrong, found.failures[0][1])
