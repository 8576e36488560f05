"""Boxes as offsets from anchors.

All boxes here are shares of the image's side, so nothing depends on its size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert

# torchvision's BoxCoder is not used: it takes anchors as corners, which rounds differently, and clips size deltas.
VARIANCES = (0.1, 0.2)  # of centres and of sizes: brings both deltas to about unit spread


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
    places, sizes = anchors_cxcywh[..., :2], anchors_cxcywh[..., 2:]
    centres = torch.addcmul(places, deltas[..., :2], sizes, value=VARIANCES[0])
    half_sizes = torch.exp(deltas[..., 2:] * VARIANCES[1]) * sizes / 2
    return torch.cat([centres - half_sizes, centres + half_sizes], -1)


def have_area(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) -> (...): whether width and height are positive. A box without area is none."""
    return (boxes_xyxy[..., 2:] > boxes_xyxy[..., :2]).all(-1)
