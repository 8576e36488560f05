"""What the tasks on faces share in training."""

from __future__ import annotations

from typing import TypeVar

from datasets.transforms import CropAugmentation
from tasks.common.face_inference import FaceInference
from tasks.common.task import Task

T = TypeVar("T")


class FaceTask(FaceInference[T], Task[T]):
    """A task whose settings also have `min_crop_area` and `randaugment_ops`."""

    def augmentation(self) -> CropAugmentation:
        """Face crop, random resized crop, flip and RandAugment."""
        size, area, ops = self.config.data.input_size, self.config.min_crop_area, self.config.randaugment_ops
        return CropAugmentation(size, min_crop_area=area, randaugment_ops=ops, pre_crop=self.face_crop)
