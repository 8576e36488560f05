"""What the teachers say of a batch of views: asked, or remembered."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datasets.files import cache_dir, write_json
from datasets.loader import Source
from distill.cache import AnswerCache
from distill.subjects import Subject
from distill.teachers import Teacher
from distill.views import DistillTargets
from tasks.common.config import LoopConfig
from tasks.common.runtime.device import autocast, compute_dtype, device_of, in_fp32

PACE = "pace.json"  # beside the answers


class Taught(NamedTuple):
    """What a batch is taught.

    Attributes:
        answer: (N, ...), of the subject.
        hint: (N, C, H, W), the first teacher's map; empty where no hint is asked for.
    """

    answer: Tensor
    hint: Tensor


class Teaching:
    """Asks teachers, and remembers what they say.

    Answers are rounded to halves, whether they are remembered or not, so that a run learns the same in both cases.

    Attributes:
        view_size: side of the views, the largest that a teacher takes.
        blank: what is said of a black image, which shows the shapes.
    """

    def __init__(
        self, teachers: Sequence[Teacher], subject: Subject, *, loop: LoopConfig, hint_stride: int | None = None
    ) -> None:
        """Who is asked.

        Args:
            teachers: one or more.
            subject: what they teach.
            loop: says how precisely they compute.
            hint_stride: of the first one's map that is a hint; None for none.

        Raises:
            ValueError: if it has no such map.
        """
        self.teachers, self._subject, self._loop, self._hint_stride = teachers, subject, loop, hint_stride
        self.view_size = max(teacher.input_size for teacher in teachers)
        if hint_stride is not None:
            channels = getattr(getattr(teachers[0].model, "backbone", None), "channels", {})
            if hint_stride not in channels:
                raise ValueError(
                    f"hint_stride: {teachers[0].title} has no map at stride {hint_stride}"
                    + (f"; it has {sorted(channels)}" if channels else "; runs of this suite have some")
                )
        self.blank = self._ask(torch.zeros(1, 3, self.view_size, self.view_size, dtype=torch.uint8))
        self.answer_shape, self.hint_shape = (tuple(part.shape[1:]) for part in self.blank)
        self._cache: AnswerCache | None = None
        self._pace_file: Path | None = None
        self.num_forward = self.num_cached = 0
        self.asking_s = 0.0

    def remember(self, source: Source[Any], num_views: int, seed: int) -> tuple[Path, int]:
        """Keep answers for so many views of each image, and take those that are kept; returns folder and bytes."""
        asked = [self._hint_stride, num_views, seed, self.view_size, self._loop.precision]
        digest = hashlib.sha256(str(asked).encode())
        for teacher in self.teachers:
            digest.update(teacher.digest.encode())
        for row in range(len(source)):
            digest.update(source.id(row).encode())
        folder = cache_dir() / "answers" / digest.hexdigest()[:32]
        num_values = math.prod(self.answer_shape) + math.prod(self.hint_shape)
        self._cache = AnswerCache(folder, num_views, len(source), num_values)
        self._pace_file = folder / PACE
        return folder, self._cache.size_bytes

    @property
    def saved_s(self) -> float:
        """Time that remembering has saved, by how long an answer took, now or when it was first given."""
        if self.num_forward:
            return self.num_cached * self.asking_s / self.num_forward
        if self._pace_file is None or not self._pace_file.is_file():
            return 0.0
        return self.num_cached * float(json.loads(self._pace_file.read_text(encoding="utf-8"))["seconds_per_view"])

    def close(self) -> None:
        """Write down how long an answer takes, for whoever is spared it."""
        if self._pace_file is not None and self.num_forward:
            write_json(self._pace_file, {"seconds_per_view": self.asking_s / self.num_forward})

    def __call__(self, targets: DistillTargets) -> Taught:
        """What the teachers say of these views.

        Raises:
            ValueError: if answers that are kept are not finite.
        """
        if self._cache is None:
            return self._unpack(self._asked(targets.teacher_images))
        known = [self._cache.find(*key) for key in targets.keys]
        new = [row for row, answer in enumerate(known) if answer is None]
        self.num_cached += len(known) - len(new)
        if new:
            answers = self._asked(targets.teacher_images[new]).numpy()
            if not np.isfinite(answers).all():
                raise ValueError(f"{self.teachers[0].title}: its answers are not finite, or too large")
            for row, answer in zip(new, answers, strict=True):
                known[row] = answer
                self._cache.keep(*targets.keys[row], answer)
        packed = torch.from_numpy(np.stack([answer for answer in known if answer is not None]))
        return self._unpack(packed.to(targets.teacher_images.device))

    def _asked(self, images: Tensor) -> Tensor:
        """Answers and hints of the teachers side by side in halves, (N, L); on the CPU where they are kept."""
        started = time.perf_counter()
        taught = self._ask(images)
        packed = torch.cat([taught.answer.flatten(1), taught.hint.flatten(1)], 1).half()
        packed = packed.cpu() if self._cache else packed
        self.asking_s += time.perf_counter() - started
        self.num_forward += len(images)
        return packed

    def _unpack(self, packed: Tensor) -> Taught:
        answer, hint = torch.split(packed.float(), [math.prod(self.answer_shape), math.prod(self.hint_shape)], 1)
        return Taught(answer.reshape(len(packed), *self.answer_shape), hint.reshape(len(packed), *self.hint_shape))

    @torch.inference_mode()
    def _ask(self, images: Tensor) -> Taught:
        """All teachers about views, uint8 RGB (N, 3, S, S)."""
        answers, hint = [], images.new_zeros(len(images), 0, dtype=torch.float32)
        for number, teacher in enumerate(self.teachers):
            device = device_of(teacher.model)
            scaled = _scaled(images.to(device), teacher.input_size)
            with autocast(device, compute_dtype(self._loop, device)):
                outputs = teacher.model(scaled)
                if number == 0 and self._hint_stride is not None:
                    backbone: Any = teacher.model.backbone
                    hint = backbone.features(scaled)[self._hint_stride].float()
            answers.append(self._subject.answer(teacher.task, in_fp32(outputs)).to(device))
        answer = answers[0] if len(answers) == 1 else self._subject.agree(answers)
        return Taught(answer, hint.to(answer.device))


def _scaled(images: Tensor, input_size: int) -> Tensor:
    """uint8 images (N, 3, S, S) at another size."""
    if images.shape[-1] == input_size:
        return images
    sides = (input_size, input_size)
    scaled = functional.interpolate(images.float(), sides, mode="bilinear", antialias=True, align_corners=False)
    return scaled.round().clamp(0, 255).to(torch.uint8)
