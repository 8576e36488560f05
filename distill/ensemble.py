"""The teachers' outputs for a batch of views: computed, or read from the cache."""

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
from datasets.sources import Source
from distill.cache import OutputCache
from distill.objectives import DistillObjective
from distill.student import require_map
from distill.teacher import Teacher
from distill.views import DistillTargets
from tasks.common.config import LoopConfig
from tasks.common.runtime.device import autocast, compute_dtype, device_of, to_fp32

CACHE_FOLDER = "teacher_outputs"
TIMING = "timing.json"  # in the folder of a cache


class TeacherOutputs(NamedTuple):
    """Distillation targets of a batch.

    Attributes:
        outputs: (N, ...), as the objective defines them.
        hint: (N, C, H, W), a feature map of the first teacher; empty without `hint_stride`.
    """

    outputs: Tensor
    hint: Tensor


class TeacherEnsemble:
    """Runs the teachers, combines their outputs, and caches them.

    Outputs are rounded to float16 with and without a cache, so that both train the same student.

    Attributes:
        view_size: side of the views in pixels, the largest input size of all teachers.
        dummy_outputs: outputs for one black image.
        output_shape: of the outputs for one image.
        hint_shape: of the hint for one image.
        num_forward: views that went through the teachers.
        num_cached: views whose outputs came from the cache.
        forward_s: time spent in the teachers.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        objective: DistillObjective,
        *,
        loop: LoopConfig,
        hint_stride: int | None = None,
    ) -> None:
        """Run the teachers on a dummy image.

        Args:
            teachers: one or more.
            objective: selects and combines their outputs.
            loop: its precision is the teachers' too.
            hint_stride: of the first teacher's feature map that is the hint; None for no hint.

        Raises:
            ValueError: if the first teacher has no feature map at `hint_stride`.
        """
        self.teachers, self._objective, self._loop, self._hint_stride = teachers, objective, loop, hint_stride
        self.view_size = max(teacher.input_size for teacher in teachers)
        if hint_stride is not None:
            require_map(teachers[0].model, hint_stride, teachers[0].title)
        self.dummy_outputs = self._forward(torch.zeros(1, 3, self.view_size, self.view_size, dtype=torch.uint8))
        self.output_shape, self.hint_shape = (tuple(part.shape[1:]) for part in self.dummy_outputs)
        self._cache: OutputCache | None = None
        self._timing_file: Path | None = None
        self.num_forward = self.num_cached = 0
        self.forward_s = 0.0

    def enable_cache(self, source: Source[Any], num_views: int, seed: int) -> tuple[Path, int]:
        """Cache the outputs for `num_views` views of each image; returns the cache's folder and size in bytes."""
        settings = [self._hint_stride, num_views, seed, self.view_size, self._loop.precision]
        digest = hashlib.sha256(str(settings).encode())
        for teacher in self.teachers:
            digest.update(teacher.digest.encode())
        for row in range(len(source)):
            digest.update(source.id(row).encode())
        folder = cache_dir() / CACHE_FOLDER / digest.hexdigest()[:32]
        num_values = math.prod(self.output_shape) + math.prod(self.hint_shape)
        self._cache = OutputCache(folder, num_views, len(source), num_values)
        self._timing_file = folder / TIMING
        return folder, self._cache.size_bytes

    @property
    def time_saved_s(self) -> float:
        """Time saved by the cache, from the time per view in this run, or else in the run that filled the cache."""
        if self.num_forward:
            return self.num_cached * self.forward_s / self.num_forward
        if self._timing_file is None or not self._timing_file.is_file():
            return 0.0
        return self.num_cached * float(json.loads(self._timing_file.read_text(encoding="utf-8"))["seconds_per_view"])

    def close(self) -> None:
        """Write the time per view beside the cache, for `time_saved_s` of later runs."""
        if self._timing_file is not None and self.num_forward:
            write_json(self._timing_file, {"seconds_per_view": self.forward_s / self.num_forward})

    def __call__(self, targets: DistillTargets) -> TeacherOutputs:
        """The outputs for these views.

        Raises:
            ValueError: if outputs to be cached are not finite.
        """
        if self._cache is None:
            return self._unpack(self._forward_packed(targets.teacher_images))
        rows = [self._cache.get(*key) for key in targets.keys]
        misses = [index for index, row in enumerate(rows) if row is None]
        self.num_cached += len(rows) - len(misses)
        if misses:
            computed = self._forward_packed(targets.teacher_images[misses]).numpy()
            if not np.isfinite(computed).all():
                raise ValueError(f"{self.teachers[0].title}: its outputs are not finite in float16")
            for index, row in zip(misses, computed, strict=True):
                rows[index] = row
                self._cache.put(*targets.keys[index], row)
        packed = torch.from_numpy(np.stack([row for row in rows if row is not None]))
        return self._unpack(packed.to(targets.teacher_images.device))

    def _forward_packed(self, images: Tensor) -> Tensor:
        """Outputs and hints side by side in float16, (N, L); on the CPU if they are to be cached."""
        started = time.perf_counter()
        outputs, hint = self._forward(images)
        packed = torch.cat([outputs.flatten(1), hint.flatten(1)], 1).half()
        packed = packed.cpu() if self._cache else packed
        self.forward_s += time.perf_counter() - started
        self.num_forward += len(images)
        return packed

    def _unpack(self, packed: Tensor) -> TeacherOutputs:
        outputs, hint = torch.split(packed.float(), [math.prod(self.output_shape), math.prod(self.hint_shape)], 1)
        return TeacherOutputs(
            outputs.reshape(len(packed), *self.output_shape), hint.reshape(len(packed), *self.hint_shape)
        )

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> TeacherOutputs:
        """All teachers on views, uint8 RGB (N, 3, S, S)."""
        outputs, hint = [], images.new_zeros(len(images), 0, dtype=torch.float32)
        for index, teacher in enumerate(self.teachers):
            device = device_of(teacher.model)
            scaled = _resize(images.to(device), teacher.input_size)
            with autocast(device, compute_dtype(self._loop, device)):
                raw = teacher.model(scaled)
                if index == 0 and self._hint_stride is not None:
                    backbone: Any = teacher.model.backbone
                    hint = backbone.features(scaled)[self._hint_stride].float()
            outputs.append(self._objective.teacher_outputs(teacher.task, to_fp32(raw)).to(device))
        combined = outputs[0] if len(outputs) == 1 else self._objective.ensemble(outputs)
        return TeacherOutputs(combined, hint.to(combined.device))


def _resize(images: Tensor, input_size: int) -> Tensor:
    """uint8 images (N, 3, S, S) at another size."""
    if images.shape[-1] == input_size:
        return images
    size = (input_size, input_size)
    resized = functional.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8)
