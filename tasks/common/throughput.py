"""What the tasks' throughput benchmarks share: ways to do a thing, timed in processes of their own, in turn.

In turn, so that a machine whose speed drifts treats all ways alike; in processes of their own, since a memory setting
or a warm cache would otherwise reach from one to the next.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tasks.common.runtime.repository import child_environment

WARMUP_STEPS = 3
Step = dict[str, float]  # part of a step -> seconds


def compare(
    module: str,
    parser: argparse.ArgumentParser,
    words: Sequence[str],
    modes: Mapping[str, str],
    measure: Callable[[str, argparse.Namespace], list[Step]],
    *,
    images_per_step: int,
) -> int:
    """Measure every mode, or with `--only` one in this process; print rates and their ratios.

    Args:
        module: that `python -m` runs.
        parser: has the benchmark's own flags.
        words: of the command line.
        modes: name of each way -> the one whose rate it is divided by.
        measure: times the steps of one of them.
        images_per_step: makes rates of times.

    Returns:
        The exit status.
    """
    parser.add_argument("--steps", type=int, default=10, help="measured in a process (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="processes for each mode (default: %(default)s)")
    parser.add_argument("--only", choices=modes, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return 0

    steps: dict[str, list[Step]] = {mode: [] for mode in modes}
    for _ in range(options.rounds):
        for mode in modes:
            command = [sys.executable, "-m", module, *words, "--only", mode]
            done = subprocess.run(command, env=child_environment(), stdout=subprocess.PIPE, check=True, text=True)
            steps[mode] += json.loads(done.stdout.splitlines()[-1])
    medians = {mode: statistics.median(sum(step.values()) for step in timed) for mode, timed in steps.items()}
    print(f"{images_per_step} images a step, medians of {options.rounds} x {options.steps} steps")
    for mode, median in medians.items():
        rate, ratio = images_per_step / median, medians[modes[mode]] / median
        parts = {part: statistics.median(step[part] for step in steps[mode]) for part in steps[mode][0]}
        shares = ", ".join(f"{part} {100 * value / sum(parts.values()):.0f}%" for part, value in parts.items())
        print(
            f"{mode:<50}{rate:9.1f} images/s   {ratio:5.2f} x {modes[mode]}{f'   ({shares})' if len(parts) > 1 else ''}"
        )
    return 0


def time_training(arriving: Iterator[Any], loss_of: Callable[[Any], Any], optimizer: Any, num_steps: int) -> list[Step]:
    """Seconds of each part of each training step, after some that are not counted."""
    steps = []
    for step in range(WARMUP_STEPS + num_steps):
        times = [time.perf_counter()]
        batch = next(arriving)
        times.append(time.perf_counter())
        loss = loss_of(batch)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        if step >= WARMUP_STEPS:
            parts = ("waiting for data", "forward and loss", "backward", "optimiser")
            steps.append({part: times[i + 1] - times[i] for i, part in enumerate(parts)})
    return steps


def time_calls(name: str, call: Callable[[], Any], num_steps: int, *, num_warmup: int = WARMUP_STEPS) -> list[Step]:
    """Seconds that each call takes, after some that are not counted."""
    steps = []
    for step in range(num_warmup + num_steps):
        started = time.perf_counter()
        call()
        if step >= num_warmup:
            steps.append({name: time.perf_counter() - started})
    return steps
