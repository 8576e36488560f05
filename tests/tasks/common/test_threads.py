"""`loop.num_threads`: at most the machine's cores."""

import os

import pytest
import torch

from tasks.common.config import LoopConfig
from tasks.common.runtime.device import setup_device
from tasks.common.runtime.threads import usable_threads


def test_more_threads_than_cores_are_the_cores_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    cores = os.cpu_count() or 1
    before = torch.get_num_threads()
    usable_threads.cache_clear()
    try:
        for _ in range(2):
            setup_device(LoopConfig(device="cpu", num_threads=100_000))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    (line,) = capsys.readouterr().err.splitlines()  # once
    assert line == f"loop.num_threads: this machine has {cores} cores; using them, not 100000"
    assert [usable_threads(number) for number in (None, 1, cores)] == [None, 1, cores]
    assert capsys.readouterr().err == ""
