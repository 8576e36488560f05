"""Anchors of SSD, and boxes as offsets from them.

All boxes in this module are shares of the image's side, so nothing depends on its size.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

MIN_SCALE, MAX_SCALE = 0.2, 0.95
LOWEST_LAYER = ((0.1, 1.0), (MIN_SCALE, 2.0), (MIN_SCALE, 0.5))  # (scale, aspect ratio) of the finest map
ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
VARIANCES = (0.1, 0.2)  # of centres and of sizes: brings both deltas to about unit spread
NUM_MAPS = 6
FEATURE_STRIDES = (16, 32)  # the backbone's maps: conv 11 and conv 13 of Table 1


def anchor_shapes() -> list[list[tuple[float, float]]]:
    """(width, height) of the anchors at each place of each map: 3 on the finest, 6 on the others.

        s_k = s_min + (s_max - s_min) k / 5;    width = s sqrt(a),  height = s / sqrt(a)

    and one more square of scale sqrt(s_k s_k+1).

    Source: Liu et al. 2016 (arXiv:1512.02325) equation 4; the finest map's three anchors and the scales 0.2 to 0.95
    are those of the TensorFlow detector that the MobileNet paper measured.
    """
    scales = [MIN_SCALE + (MAX_SCALE - MIN_SCALE) * k / (NUM_MAPS - 1) for k in range(NUM_MAPS)] + [1.0]
    pairs = [list(LOWEST_LAYER)]
    for scale, next_scale in itertools.pairwise(scales[1:]):
        pairs.append([(scale, ratio) for ratio in ASPECT_RATIOS] + [(math.sqrt(scale * next_scale), 1.0)])
    return [[(s * math.sqrt(a), s / math.sqrt(a)) for s, a in map_pairs] for map_pairs in pairs]


def grid_sizes(input_size: int) -> list[int]:
    """The side of each map in cells: strides 16 and 32, then half of the one before; 300 px: 19, 10, 5, 3, 2, 1."""
    grids = [math.ceil(input_size / stride) for stride in FEATURE_STRIDES]
    while len(grids) < NUM_MAPS:
        grids.append(math.ceil(grids[-1] / 2))
    return grids


def build_anchors(input_size: int) -> Tensor:
    """All anchors, in the order of the predictors: map, row, column, shape.

    Args:
        input_size: side of the network's input in pixels.

    Returns:
        (A, 4): centre x, centre y, width, height.
    """
    parts = []
    for grid, shapes in zip(grid_sizes(input_size), anchor_shapes(), strict=True):
        centres = (torch.arange(grid) + 0.5) / grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        places = torch.stack([x, y], -1)[:, :, None].expand(-1, -1, len(shapes), -1)
        sizes = torch.tensor(shapes).expand(grid, grid, -1, -1)
        parts.append(torch.cat([places, sizes], -1).reshape(-1, 4))
    return torch.cat(parts)


def encode(boxes_xyxy: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Boxes as offsets from anchors.

        d_x = (c_x - a_x) / (0.1 a_w)        d_w = ln(w / a_w) / 0.2

    Args:
        boxes_xyxy: (..., 4), with positive width and height.
        anchors_cxcywh: (..., 4).

    Returns:
        (..., 4): d_x, d_y, d_w, d_h.

    Source: Liu et al. 2016, equation 2; variances of the authors' code.
    """
    centres = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2
    sizes = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    offsets = (centres - anchors_cxcywh[..., :2]) / (VARIANCES[0] * anchors_cxcywh[..., 2:])
    return torch.cat([offsets, torch.log(sizes / anchors_cxcywh[..., 2:]) / VARIANCES[1]], -1)


def decode(deltas: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """The inverse of `encode`: (..., 4) offsets -> (..., 4) boxes xyxy."""
    centres = deltas[..., :2] * VARIANCES[0] * anchors_cxcywh[..., 2:] + anchors_cxcywh[..., :2]
    half_sizes = torch.exp(deltas[..., 2:] * VARIANCES[1]) * anchors_cxcywh[..., 2:] / 2
    return torch.cat([centres - half_sizes, centres + half_sizes], -1)


def to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) centre and size -> (..., 4) corners."""
    half_sizes = boxes_cxcywh[..., 2:] / 2
    return torch.cat([boxes_cxcywh[..., :2] - half_sizes, boxes_cxcywh[..., :2] + half_sizes], -1)
