"""Box coding: boxes as offsets from anchors. All boxes here are fractions of the image's side."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

# torchvision's BoxCoder is not used: it takes anchors as corners, which rounds differently, and clips size deltas.
VARIANCES = (0.1, 0.2)  # of centres and of sizes: brings both deltas to about unit variance


def encode(boxes_xyxy: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Boxes as offsets from anchors.

        d_x = (c_x - a_x) / (0.1 a_w)        d_w = ln(w / a_w) / 0.2

    Args:
        boxes_xyxy: (..., 4), with positive width and height.
        anchors_cxcywh: (..., 4), of the same shape.

    Returns:
        (..., 4): d_x, d_y, d_w, d_h.

    Source: Liu et al. 2016 (arXiv:1512.02325), equation 2; variances of the authors' code.
    """
    boxes_cxcywh = box_convert(boxes_xyxy, "xyxy", "cxcywh")
    offsets = (boxes_cxcywh[..., :2] - anchors_cxcywh[..., :2]) / (VARIANCES[0] * anchors_cxcywh[..., 2:])
    return torch.cat([offsets, torch.log(boxes_cxcywh[..., 2:] / anchors_cxcywh[..., 2:]) / VARIANCES[1]], -1)


def decode(deltas: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """The inverse of `encode`: (..., 4) offsets -> (..., 4) boxes xyxy."""
    anchor_centres, anchor_sizes = anchors_cxcywh[..., :2], anchors_cxcywh[..., 2:]
    centres = torch.addcmul(anchor_centres, deltas[..., :2], anchor_sizes, value=VARIANCES[0])
    half_sizes = torch.exp(deltas[..., 2:] * VARIANCES[1]) * anchor_sizes / 2
    return torch.cat([centres - half_sizes, centres + half_sizes], -1)


def has_area(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) -> (...): whether width and height are positive; degenerate boxes are padding."""
    return (boxes_xyxy[..., 2:] > boxes_xyxy[..., :2]).all(-1)
