"""Implementations of the same work, timed in turn, each in a process of its own.

In turn, so that a machine whose speed drifts affects all of them alike; in processes of their own, since a memory
setting or a warm cache would otherwise carry over from one to the next.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from datasets.progress import Progress
from tasks.common.runtime.repository import child_environment

Step = dict[str, float]  # part of a step -> seconds
Details = Mapping[str, float | str]
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


@dataclasses.dataclass(frozen=True)
class Workload:
    """What one process measures.

    Attributes:
        size: images in a batch, a data set or a gallery.
        steps: measured steps.
        warmup: steps before them that are not counted.
        images: folder of JPEG files; None for the generated sample.
        coco: folder in COCO's layout; None for the generated sample.
    """

    size: int
    steps: int
    warmup: int
    images: str | None = None
    coco: str | None = None


class Timing(NamedTuple):
    """What one process measured.

    Attributes:
        items: processed in a step.
        steps: the seconds of each.
        details: further figures, by name and unit.
    """

    items: int
    steps: list[Step]
    details: Details


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Implementations of the same work.

    Attributes:
        name: of the work; `{size}` is the workload's.
        unit: of the items that are counted.
        implementations: name -> optional package that it needs, None for none.
        reference: the implementation that rates are divided by; None where there is nothing to compare with.
        measure: times one implementation, in the process that calls it.
        size: of the workload, where no flag gives another.
        size_flag: of the command line.
        steps: measured in a process, where no flag gives another number.
        warmup: steps that are not counted.
    """

    name: str
    unit: str
    implementations: Mapping[str, str | None]
    reference: str | None
    measure: Callable[[str, Workload], Timing]
    size: int
    size_flag: Literal["batch_size", "num_images"] | None
    steps: int
    warmup: int = 3


class Row(NamedTuple):
    """The speed of one implementation.

    Attributes:
        implementation: its name.
        per_second: items, from the median step.
        ratio: to the reference's; None where there is none.
        parts: median seconds of each part of a step.
        details: further figures, of the last process.
    """

    implementation: str
    per_second: float
    ratio: float | None
    parts: Step
    details: Details


class Result(NamedTuple):
    """The table rows of one comparison.

    Attributes:
        area: of the benchmark.
        name: of the work.
        unit: of the items.
        rows: of the implementations, in their order.
    """

    area: str
    name: str
    unit: str
    rows: list[Row]


class Job(NamedTuple):
    """A comparison and its workload.

    Attributes:
        area: of the benchmark.
        comparison: the comparison.
        workload: what each process measures.
    """

    area: str
    comparison: Comparison
    workload: Workload


def run_jobs(jobs: Sequence[Job], rounds: int) -> list[Result]:
    """Measure all implementations whose packages are installed, with progress on standard error.

    Args:
        jobs: the comparisons.
        rounds: processes of each implementation.
    """
    present = [_installed(job.comparison) for job in jobs]
    results = []
    with Progress("measuring", rounds * sum(map(len, present))) as progress:
        for job, implementations in zip(jobs, present, strict=True):
            timings: dict[str, list[Timing]] = {name: [] for name in implementations}
            for _ in range(rounds):
                for implementation in implementations:
                    progress.describe(f"{job.area}: {implementation}")
                    timings[implementation].append(_measure_in_child(job, implementation))
                    progress.advance()
            name = job.comparison.name.format(size=job.workload.size)
            rows = summarise(timings, job.comparison.reference)
            results.append(Result(job.area, name, job.comparison.unit, rows))
    return results


def summarise(timings: Mapping[str, Sequence[Timing]], reference: str | None) -> list[Row]:
    """Median rates and their ratios.

    Args:
        timings: of each implementation, one for each process.
        reference: the implementation that rates are divided by.
    """
    rows = []
    for name, measured in timings.items():
        steps = [step for timing in measured for step in timing.steps]
        per_second = measured[-1].items / statistics.median(sum(step.values()) for step in steps)
        parts = {part: statistics.median(step[part] for step in steps) for part in steps[0]}
        rows.append(Row(name, per_second, None, parts, measured[-1].details))
    base = next((row.per_second for row in rows if row.implementation == reference), None)
    return rows if base is None else [row._replace(ratio=row.per_second / base) for row in rows]


def time_training(
    batches: Iterator[Any], loss_of: Callable[[Any], Any], optimizer: Any, workload: Workload
) -> list[Step]:
    """Seconds of each part of each training step."""
    steps = []
    for _ in range(workload.warmup + workload.steps):
        times = [time.perf_counter()]
        batch = next(batches)
        times.append(time.perf_counter())
        loss = loss_of(batch)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        parts = ("waiting for data", "forward and loss", "backward", "optimiser")
        steps.append({part: times[i + 1] - times[i] for i, part in enumerate(parts)})
    return steps[workload.warmup :]


def time_calls(call: Callable[[], Any], workload: Workload) -> list[Step]:
    """Seconds of each call."""
    steps = []
    for _ in range(workload.warmup + workload.steps):
        started = time.perf_counter()
        call()
        steps.append({"call": time.perf_counter() - started})
    return steps[workload.warmup :]


def peak_memory_mb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS / 1e6


def _installed(comparison: Comparison) -> list[str]:
    missing: dict[str, list[str]] = {}
    for name, package in comparison.implementations.items():
        if package is not None and importlib.util.find_spec(package) is None:
            missing.setdefault(package, []).append(name)
    for package, names in missing.items():
        rows = "; ".join(names)
        warnings.warn(f"{package} is not installed, so these are skipped: {rows}; pip install {package}", stacklevel=2)
    return [name for name, package in comparison.implementations.items() if package not in missing]


def _measure_in_child(job: Job, implementation: str) -> Timing:
    words = [job.area, job.comparison.name, implementation, json.dumps(dataclasses.asdict(job.workload))]
    command = [sys.executable, "-m", "results.bench.child", *words]
    done = subprocess.run(command, env=child_environment(), stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise ValueError(f"{job.area}: {implementation}: the measurement failed, see above")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))
