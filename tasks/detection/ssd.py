"""SSD on MobileNet: the network, and what its raw outputs mean. The loss is in `loss.py`."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbone import Backbone, Conventions
from backbone.layers import ConvBNReLU
from datasets.types import Detections
from tasks.detection.anchors import build_anchors, ssd_shapes
from tasks.detection.boxes import decode
from tasks.detection.config import Predictor
from tasks.detection.postprocess import Limits, best_boxes

FEATURE_STRIDES = (16, 32)  # the backbone's maps: conv 11 and conv 13 of Table 1
EXTRA_CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))  # of each pair: 1x1, then 3x3 with stride 2


class SSDOutputs(NamedTuple):
    """Raw outputs for every anchor.

    Attributes:
        class_logits: (N, A, K + 1), background first.
        box_deltas: (N, A, 4), offsets from the anchors.
        anchors: (A, 4) centre and size, as shares of the image.
    """

    class_logits: Tensor
    box_deltas: Tensor
    anchors: Tensor


class SSD(nn.Module):
    """Single shot detector on six maps.

    At 300 px and width 1.0: grids 19, 10, 5, 3, 2, 1 and 1,917 anchors; with 91 outputs 1,237 M mult-adds and 6.82 M
    parameters.

    Source: Howard et al. 2017, section 4.6 and Table 13; Liu et al. 2016 (arXiv:1512.02325).
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, predictor: Predictor = "pointwise") -> None:
        """Build with random weights for all but the backbone.

        Args:
            backbone: gives maps at strides 16 and 32; its width also scales the extra maps.
            num_classes: K, without background.
            predictor: `pointwise` convolutions of 1x1, or `separable` ones of 3x3 (Sandler et al. 2018, section 6.2).
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        channels = [backbone.channels[stride] for stride in FEATURE_STRIDES]
        self.extras = nn.ModuleList()
        for squeezed, out_channels in EXTRA_CHANNELS:
            squeezed, out_channels = (max(1, int(c * backbone.width_mult)) for c in (squeezed, out_channels))
            pair = (
                ConvBNReLU(channels[-1], squeezed, 1, backbone.conventions),
                ConvBNReLU(squeezed, out_channels, 3, backbone.conventions, stride=2),
            )
            self.extras.append(nn.Sequential(*pair))
            channels.append(out_channels)
        shapes_per_map = [len(shapes) for shapes in ssd_shapes()]
        pairs = list(zip(channels, shapes_per_map, strict=True))
        build = partial(_build_predictor, predictor, backbone.conventions)
        self.class_predictors = nn.ModuleList(build(c, n * (num_classes + 1)) for c, n in pairs)
        self.box_predictors = nn.ModuleList(build(c, n * 4) for c, n in pairs)
        for layers in (*self.class_predictors, *self.box_predictors):
            nn.init.normal_(layers[-1].weight, std=0.01)
            nn.init.zeros_(layers[-1].bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> SSDOutputs:
        """uint8 RGB (N, 3, S, S) -> raw outputs for A anchors."""
        features = self.backbone.features(images)
        maps = [features[stride] for stride in FEATURE_STRIDES]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return SSDOutputs(
            _predict(self.class_predictors, maps, self.num_classes + 1),
            _predict(self.box_predictors, maps, 4),
            build_anchors(maps, ssd_shapes()),
        )


def _build_predictor(kind: Predictor, conventions: Conventions, in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 1)]
    if kind == "separable":
        layers.insert(0, ConvBNReLU(in_channels, in_channels, 3, conventions, groups=in_channels))
    return nn.Sequential(*layers)


def _predict(predictors: nn.ModuleList, maps: list[Tensor], size: int) -> Tensor:
    """(N, shapes * size, H, W) of every map -> (N, A, size); no copy where channels are last in memory."""
    predictions = [predictor(m).permute(0, 2, 3, 1) for predictor, m in zip(predictors, maps, strict=True)]
    return torch.cat([prediction.reshape(len(prediction), -1, size) for prediction in predictions], 1)


def decode_ssd(outputs: SSDOutputs, limits: Limits) -> list[Detections]:
    """Scored boxes of each image, best first."""

    def boxes_of(places: Tensor, _class_ids: Tensor) -> Tensor:
        return decode(outputs.box_deltas.flatten(0, 1)[places], outputs.anchors[places % len(outputs.anchors)])

    return best_boxes(outputs.class_logits.softmax(-1)[..., 1:], boxes_of, limits)
