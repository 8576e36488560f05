"""kill -9 at any moment: what is promised then is so, and who goes on ends as if nothing had happened, bit by bit.

`python -m pytest -m faults tests/faults/test_kills.py` kills more than 200 times.
"""

from __future__ import annotations

import itertools
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import COMMANDS, OUT
from tests.faults.conftest import Undisturbed
from tests.faults.processes import Fault, run

NUM_KILLS = {"train": 30, "distill": 15, "sweep": 15, "index": 50, "predict": 50, "export": 30, "convert": 50}


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_kill_9_at_random_moments(
    name: str, undisturbed: Callable[[str], Undisturbed], trial: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every other one at a change of the file system, which a random time seldom meets."""
    command, whole = COMMANDS[name], undisturbed(name)
    rng, outcomes = random.Random(f"kill {name}"), Counter[str]()
    for number in itertools.count():
        if outcomes.total() - outcomes["had ended"] == NUM_KILLS[name]:
            break
        shutil.rmtree(trial)
        moment = rng.random()
        if number % 2:
            ended = run(command.start, trial, Fault(int(moment * whole.ended.num_changes), "kill"))
        else:
            ended = run(command.start, trial, kill_after_s=moment * whole.ended.seconds)
        case = f"{name} {number}, after {ended.seconds:.2f} s of {whole.ended.seconds:.2f}: {ended.err}"
        assert ended.status in (-signal.SIGKILL, 0), case
        command.kept(trial)
        if ended.status == 0:
            outcome = "had ended"
        elif not (trial / OUT).exists():
            outcome = "nothing was there"
        elif command.can_resume(trial):
            outcome = "went on"
        else:
            outcome = "began again"
        if ended.status and not _is_done(name, trial, whole):
            again = run(command.way_on(trial), trial)
            assert again.status == 0, f"{case}\nthen: {again.err}"
        assert command.end(trial) == whole.end, case
        outcomes[outcome] += 1
        with capsys.disabled():
            print(f"\r{name}: {dict(outcomes)}; undisturbed {whole.ended.seconds:.1f} s  ", end="", flush=True)


def _is_done(name: str, trial: Path, whole: Undisturbed) -> bool:
    """Whether all was done before the kill."""
    try:
        return bool(COMMANDS[name].end(trial) == whole.end)
    except (OSError, ValueError):
        return False
