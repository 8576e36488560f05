"""The commands that make the networks of a compression study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from results.compress_rows import (
    DISTILLED,
    PRETRAINED,
    PRUNED,
    RANDOM,
    TEACHER,
    TICKETS,
    network_of,
    origin_of,
    precision_of,
)
from results.study import CELLS, Step
from tasks.common.deploy.inference import inference_cost
from tasks.common.runs.folder import METRICS
from tasks.common.runs.pretrained import without_pretrained
from tasks.common.settings import CONFIG, replace_settings
from tasks.common.verbs.export import REPORT
from tasks.registry import task_class

PRUNED_TEACHER = "pruned_teacher"  # before it is trained again
FLAGS = {"": (), "int8": ("--int8",), "qat": ("--int8", "--finetune")}  # of `export`, by precision


class Study(NamedTuple):
    """What all rows have in common.

    Attributes:
        task: name.
        folder: of the study.
        student: name of the small backbone.
        teacher: name of the large one.
        pretrained: weights that the student starts from.
        teacher_pretrained: likewise, the teacher.
        mult_adds: of the student's backbone, as a fraction of the teacher's.
    """

    task: str
    folder: Path
    student: str
    teacher: str
    pretrained: str
    teacher_pretrained: str
    mult_adds: float

    def run_of(self, row: str, seed: int) -> Path:
        """The folder of a row's run; of a row in 8 bits, the run that was exported."""
        network = network_of(row)
        folder = self._folder(network, seed)
        return folder / DISTILLED if network.endswith(DISTILLED) else folder

    def export_of(self, row: str, seed: int) -> Path:
        """The folder of a row's ONNX file."""
        return self._folder(f"{network_of(row)}+{precision_of(row) or 'float32'}", seed)

    def missing(self, row: str) -> str:
        """Why there is no such row; empty if there is one."""
        if PRETRAINED in (network_of(row), origin_of(row)) and self.pretrained == "none":
            return "the settings have no pretrained weights"
        return ""

    def steps(self, row: str, seed: int) -> list[Step]:
        """The commands of a row, in order; one in float32 is exported once, since its size depends on no seed."""
        made = self._networks(seed)
        steps = made[origin_of(row)] + made[network_of(row)]
        if precision_of(row) or seed == 0:
            steps.append(self._export(row, seed))
        return steps

    def _networks(self, seed: int) -> dict[str, list[Step]]:
        """The commands that make each network of those that it is made of."""
        small, pruned = self.student, self._folder(PRUNED_TEACHER, seed)
        prune = self._prune(TEACHER, seed, ["--mult_adds", f"{math.ceil(1e4 * self.mult_adds) / 1e4:g}"], pruned)
        made = {
            "": [],
            TEACHER: [self._train(TEACHER, seed, self.teacher_pretrained, self.teacher)],
            RANDOM: [self._train(RANDOM, seed, "none", small)],
            PRETRAINED: [self._train(PRETRAINED, seed, self.pretrained, small)],
            DISTILLED: [self._distill(DISTILLED, seed, self.pretrained, small)],
            PRUNED: [prune, self._train(PRUNED, seed, str(pruned))],
            f"{PRUNED}+{DISTILLED}": [prune, self._distill(f"{PRUNED}+{DISTILLED}", seed, str(pruned))],
        }
        for name, sparsity in TICKETS.items():
            start = self._folder(f"{name}_start", seed)
            prune = self._prune(PRETRAINED, seed, ["--sparsity", f"{sparsity:g}"], start)
            made[name] = [prune, self._train(name, seed, str(start), small, "--optim.keep_zeros", "true")]
        return made

    def _folder(self, name: str, seed: int) -> Path:
        return self.folder / CELLS / f"{name}_{seed}"

    def _settings(self, seed: int, pretrained: str, backbone: str | None) -> list[str]:
        """The words of a training; without a backbone, that of the pretrained run."""
        words = ["--config", str(self.folder / CONFIG), "--seed", str(seed), "--pretrained", pretrained]
        return words if backbone is None else [*words, "--backbone.name", backbone]

    def _train(self, name: str, seed: int, pretrained: str, backbone: str | None = None, *more: str) -> Step:
        words = [*self._settings(seed, pretrained, backbone), *more]
        return Step((f"tasks.{self.task}", "train"), words, self._folder(name, seed))

    def _distill(self, name: str, seed: int, pretrained: str, backbone: str | None = None) -> Step:
        words = ["--teacher", str(self._folder(TEACHER, seed)), "--baseline", "false"]
        words += self._settings(seed, pretrained, backbone)
        return Step(("distill",), words, self._folder(name, seed), done=f"{DISTILLED}/{METRICS}", begun=(CONFIG,))

    def _prune(self, row: str, seed: int, how: Sequence[str], out: Path) -> Step:
        words = ["--run", str(self.run_of(row, seed)), *how]
        return Step((f"tasks.{self.task}", "prune"), words, out, "--out", begun=())

    def _export(self, row: str, seed: int) -> Step:
        words = ["--run", str(self.run_of(row, seed)), *FLAGS[precision_of(row)]]
        return Step((f"tasks.{self.task}", "export"), words, self.export_of(row, seed), "--out", REPORT, ())


def mult_adds_fraction(task_name: str, config: Any, student: str, teacher: str) -> float:
    """The mult-adds of a student's backbone, as a fraction of its teacher's.

    Args:
        task_name: of the task, which may dilate them.
        config: of the task.
        student: name of the small backbone.
        teacher: name of the large one.

    Raises:
        ValueError: if it has more than the teacher, or a name is wrong.
    """

    def mult_adds(name: str) -> int:
        settings = replace_settings(without_pretrained(config), {"backbone.name": name, "backbone.channels": None})
        network: Any = task_class(task_name).with_num_classes(settings, None).build_model()
        return inference_cost(network.backbone, config.data.input_size).mult_adds

    small, large = mult_adds(student), mult_adds(teacher)
    if small > large:
        raise ValueError(f"--teacher: expected a network larger than {student}, got {teacher}")
    return small / large
