"""What the teachers say of a batch of lessons: asked, or remembered."""

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
from distill.cache import AnswerCache, Halves
from distill.lessons import Lesson
from distill.subjects import Subject
from distill.teachers import Teacher
from tasks.common.config import LoopConfig
from tasks.common.device import autocast, compute_dtype, device_of, in_fp32

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
        self.blank = self._ask(np.zeros((1, self.view_size, self.view_size, 3), np.uint8))
        self.answer_shape, self.hint_shape = (tuple(part.shape[1:]) for part in self.blank)
        self._cache: AnswerCache | None = None
        self._pace_file: Path | None = None
        self.num_asked = self.num_remembered = 0
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
        if self.num_asked:
            return self.num_remembered * self.asking_s / self.num_asked
        if self._pace_file is None or not self._pace_file.is_file():
            return 0.0
        return self.num_remembered * float(json.loads(self._pace_file.read_text())["seconds_per_view"])

    def close(self) -> None:
        """Write down how long an answer takes, for whoever is spared it."""
        if self._pace_file is not None and self.num_asked:
            write_json(self._pace_file, {"seconds_per_view": self.asking_s / self.num_asked})

    def __call__(self, lessons: Sequence[Lesson[Any]]) -> Taught:
        """What the teachers say of these views."""
        digests = [lesson.digest() if self._cache else b"" for lesson in lessons]
        known = [self._find(lesson, digest) for lesson, digest in zip(lessons, digests, strict=True)]
        new = [row for row, answer in enumerate(known) if answer is None]
        self.num_remembered += len(lessons) - len(new)
        if new:
            answers = self._halves(np.stack([lessons[row].pixels for row in new]))
            for row, answer in zip(new, answers, strict=True):
                known[row] = answer
                view = lessons[row].view
                if self._cache is not None and view is not None:
                    self._cache.keep(view, lessons[row].row, digests[row], answer)
        return self._unpack(np.stack([answer for answer in known if answer is not None]))

    def _find(self, lesson: Lesson[Any], digest: bytes) -> Halves | None:
        if self._cache is None or lesson.view is None:
            return None
        return self._cache.find(lesson.view, lesson.row, digest)

    def _halves(self, pixels: np.ndarray) -> Halves:
        started = time.perf_counter()
        taught = self._ask(pixels)
        packed = torch.cat([taught.answer.flatten(1), taught.hint.flatten(1)], 1).half().cpu().numpy()
        self.asking_s += time.perf_counter() - started
        self.num_asked += len(pixels)
        if not np.isfinite(packed).all():
            raise ValueError(f"{self.teachers[0].title}: its answers are not finite, or too large")
        halves: Halves = packed
        return halves

    def _unpack(self, packed: Halves) -> Taught:
        values = torch.from_numpy(packed).float().to(device_of(self.teachers[0].model))
        answer, hint = torch.split(values, [math.prod(self.answer_shape), math.prod(self.hint_shape)], 1)
        return Taught(answer.reshape(len(values), *self.answer_shape), hint.reshape(len(values), *self.hint_shape))

    @torch.inference_mode()
    def _ask(self, pixels: np.ndarray) -> Taught:
        """All teachers about views (N, S, S, 3)."""
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
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
