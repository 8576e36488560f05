"""What happens to an image and its truth before the network sees them. The only module that knows albumentations."""

from __future__ import annotations

import os

import cv2
import numpy as np

from datasets.types import Detections, Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read when albumentations is imported: no network access
import albumentations as A

GREY = (127, 127, 127)
# A box cut down to less than this share of its area says little about its object. SSD keeps a box whose centre is in
# the crop, which for a box cut at one side is a share of one half and for one cut at a corner one quarter.
MIN_VISIBLE_SHARE = 0.35


def resize(image: Image, input_size: int) -> Image:
    """Stretch to a square of `input_size` pixels, as SSD does; averaging where that makes it much smaller."""
    interpolation = cv2.INTER_AREA if min(image.shape[:2]) > 2 * input_size else cv2.INTER_LINEAR
    return cv2.resize(image, (input_size, input_size), interpolation=interpolation)  # type: ignore[return-value]


class DetectionAugmentation:
    """Augmentation in SSD's manner: crop or zoom out or neither, flip, colours, and the stretch to the input size.

    Crops are drawn by their share of the image, not by their overlap with an object as in the paper.

    Source: Liu et al. 2016 (arXiv:1512.02325), sections 2.2 and 3.6.
    """

    def __init__(self, input_size: int) -> None:
        """Args: input_size: side of the result in pixels."""
        crop = A.RandomResizedCrop((input_size, input_size), scale=(0.1, 1.0), ratio=(0.5, 2.0))
        zoom_out = A.Affine(
            scale=(0.5, 1.0), translate_percent=(-0.25, 0.25), balanced_scale=False, fill=GREY, keep_ratio=True
        )
        self._pipeline = A.Compose(
            [
                A.OneOf(
                    [
                        A.Resize(input_size, input_size, p=1),
                        A.Compose([crop], p=3),
                        A.Compose([zoom_out, A.Resize(input_size, input_size)], p=1),
                    ],
                    p=1,
                ),
                A.HorizontalFlip(p=0.5),
                A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3, p=0.5),
                A.HueSaturationValue(hue_shift_limit=9, sat_shift_limit=40, val_shift_limit=0, p=0.5),
            ],
            bbox_params=A.BboxParams(
                format="pascal_voc",
                label_fields=["rows"],
                min_visibility=MIN_VISIBLE_SHARE,
                min_width=2,
                min_height=2,
                clip=True,
            ),
        )

    def __call__(self, image: Image, truth: Detections, seed: int) -> tuple[Image, Detections]:
        """A random variant of an example; the same seed gives the same one.

        Returns:
            The image, uint8 (input_size, input_size, 3), and its boxes in that frame. Crowd boxes are left out,
            since they are not single objects; the loss takes what is there for background.
        """
        if truth.is_crowd is not None:
            truth = truth.select(~truth.is_crowd)
        self._pipeline.set_random_seed(seed)
        result = self._pipeline(image=image, bboxes=truth.boxes_xyxy, rows=np.arange(len(truth)))
        rows = np.asarray(result["rows"], np.int64)
        boxes_xyxy = np.asarray(result["bboxes"], np.float32).reshape(-1, 4)
        augmented = result["image"]
        return augmented, Detections(boxes_xyxy, truth.class_ids[rows], augmented.shape[:2])
