"""Anchors of both detectors: boxes of several shapes at every location of the feature maps.

torchvision's generator is not used: it takes 300 px over 19 cells for a stride of 15, so its anchors drift off their
cells. All boxes in this module are fractions of the image's side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

AnchorShapes = list[tuple[float, float]]  # (width, height) of the anchors at each location of a feature map

MIN_SCALE, MAX_SCALE = 0.2, 0.95
FINEST_SSD_ANCHORS = ((0.1, 1.0), (MIN_SCALE, 2.0), (MIN_SCALE, 0.5))  # (scale, aspect ratio)
SSD_ASPECT_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
NUM_SSD_FEATURE_MAPS = 6

ASPECT_RATIOS = (0.5, 1.0, 2.0)


def ssd_shapes() -> list[AnchorShapes]:
    """SSD's anchors for each feature map: 3 on the finest, 6 on the others.

        s_k = s_min + (s_max - s_min) k / 5;    width = s sqrt(a),  height = s / sqrt(a)

    and one more square of scale sqrt(s_k s_k+1).

    Source: Liu et al. 2016 (arXiv:1512.02325) equation 4; the finest map's three anchors and the scales 0.2 to 0.95
    are those of the TensorFlow detector that the MobileNet paper measured.
    """
    scales = _ssd_scales()
    pairs = [list(FINEST_SSD_ANCHORS)]
    for scale, next_scale in itertools.pairwise(scales[1:]):
        pairs.append([(scale, ratio) for ratio in SSD_ASPECT_RATIOS] + [(math.sqrt(scale * next_scale), 1.0)])
    return [_shapes(map_pairs) for map_pairs in pairs]


def torchvision_shapes() -> list[AnchorShapes]:
    """The anchors of torchvision's SSDLite: 6 on each feature map, and none wider or higher than the image.

    The scales are those of `ssd_shapes`; in torchvision's order, the second square comes before the other ratios.
    """
    maps = []
    for scale, next_scale in itertools.pairwise(_ssd_scales()):
        squares = [(scale, 1.0), (math.sqrt(scale * next_scale), 1.0)]
        shapes = _shapes(squares + [(scale, ratio) for ratio in SSD_ASPECT_RATIOS[1:]])
        maps.append([(min(width, 1.0), min(height, 1.0)) for width, height in shapes])
    return maps


def _ssd_scales() -> list[float]:
    """s_k of each of SSD's feature maps, and 1 for the one after the last."""
    last = NUM_SSD_FEATURE_MAPS - 1
    return [MIN_SCALE + (MAX_SCALE - MIN_SCALE) * k / last for k in range(NUM_SSD_FEATURE_MAPS)] + [1.0]


def fpn_shapes() -> list[AnchorShapes]:
    """Six anchors on each of five feature maps: two scales, half an octave apart, in three aspect ratios.

    s_k = 0.05 * 2^k
    """
    octaves = [0.05 * 2**k for k in range(5)]
    return [_shapes(itertools.product((scale, scale * math.sqrt(2)), ASPECT_RATIOS)) for scale in octaves]


def rpn_shapes(scales: Sequence[float]) -> AnchorShapes:
    """Faster R-CNN's anchors: each scale, a fraction of the image's side, in three aspect ratios.

    Source: Ren et al. 2015 (arXiv:1506.01497), section 3.1.1.
    """
    return _shapes(itertools.product(scales, ASPECT_RATIOS))


def _shapes(pairs: Iterable[tuple[float, float]]) -> AnchorShapes:
    return [(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for scale, ratio in pairs]


def grid_sizes(input_size: int, strides: Iterable[int]) -> list[tuple[int, int]]:
    """Height and width in cells of a square image's feature maps at the given strides."""
    return [(-(-input_size // stride),) * 2 for stride in strides]


def build_anchors(
    sizes_hw: Sequence[tuple[int, int]], shapes_per_map: Sequence[AnchorShapes], *, extent: float = 1.0
) -> Tensor:
    """All anchors in the order of the predictions: feature map, row, column, shape.

    Args:
        sizes_hw: height and width of each feature map in cells.
        shapes_per_map: of the anchors at each cell.
        extent: side of the feature maps as a fraction of the image's.

    Returns:
        (A, 4): centre x, centre y, width, height.
    """
    parts = []
    for (num_rows, num_columns), shapes in zip(sizes_hw, shapes_per_map, strict=True):
        rows, columns = (torch.arange(num_rows) + 0.5) / num_rows, (torch.arange(num_columns) + 0.5) / num_columns
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres = torch.stack([x, y], -1)[:, :, None].expand(-1, -1, len(shapes), -1) * extent
        sizes = torch.tensor(shapes).expand(num_rows, num_columns, -1, -1)
        parts.append(torch.cat([centres, sizes], -1).reshape(-1, 4))
    return torch.cat(parts)
