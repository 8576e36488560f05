"""SSD on MobileNet: the network, and what its raw outputs mean. The loss is in `loss.py`."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from backbone import Backbone, Conventions
from backbone.layers import ConvBNReLU
from datasets.types import Detections
from tasks.detection.anchors import FEATURE_STRIDES, anchor_shapes, decode
from tasks.detection.config import Predictor

EXTRA_CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))  # of each pair: 1x1, then 3x3 with stride 2
MAX_CANDIDATES = 1000  # boxes of one image that enter non-maximum suppression


class DetectionOutputs(NamedTuple):
    """Raw outputs for every anchor.

    Attributes:
        class_logits: (N, A, K + 1), background first.
        box_deltas: (N, A, 4), offsets from the anchors.
    """

    class_logits: Tensor
    box_deltas: Tensor


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
        shapes_per_map = [len(shapes) for shapes in anchor_shapes()]
        pairs = list(zip(channels, shapes_per_map, strict=True))
        build = partial(_build_predictor, predictor, backbone.conventions)
        self.class_predictors = nn.ModuleList(build(c, n * (num_classes + 1)) for c, n in pairs)
        self.box_predictors = nn.ModuleList(build(c, n * 4) for c, n in pairs)
        for layers in (*self.class_predictors, *self.box_predictors):
            nn.init.normal_(layers[-1].weight, std=0.01)
            nn.init.zeros_(layers[-1].bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> DetectionOutputs:
        """uint8 RGB (N, 3, S, S) -> raw outputs for A anchors."""
        features = self.backbone.features(images)
        maps = [features[stride] for stride in FEATURE_STRIDES]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return DetectionOutputs(
            _predict(self.class_predictors, maps, self.num_classes + 1), _predict(self.box_predictors, maps, 4)
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


def decode_detections(
    outputs: DetectionOutputs,
    anchors: Tensor,
    *,
    input_size: int,
    score_threshold: float,
    nms_iou: float,
    max_detections: int,
) -> list[Detections]:
    """Scored boxes of each image, best first.

    Every anchor may give a box for several classes; of overlapping boxes of one class the best stays.

    Args:
        outputs: of N images.
        anchors: (A, 4) centre and size, as shares of the image.
        input_size: side in pixels of the frame that the boxes are returned in.
        score_threshold: lower scores are dropped.
        nms_iou: a box that overlaps a better one of its class by more is dropped.
        max_detections: an image keeps at most so many.
    """
    num_images, num_anchors, num_outputs = outputs.class_logits.shape
    num_classes = num_outputs - 1
    scores = outputs.class_logits.softmax(-1)[..., 1:].reshape(num_images, -1)
    scores, places = scores.topk(min(MAX_CANDIDATES, num_anchors * num_classes))
    anchor_ids, class_ids = places // num_classes, places % num_classes
    deltas = outputs.box_deltas.gather(1, anchor_ids[..., None].expand(-1, -1, 4))
    boxes_xyxy = decode(deltas, anchors[anchor_ids]).clamp(0, 1) * input_size
    solid = ((boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) > 0).all(-1)
    candidates = (scores >= score_threshold) & solid

    detections = []
    for keep, *image in zip(candidates, boxes_xyxy, scores, class_ids, strict=True):
        boxes, image_scores, image_classes = (values[keep] for values in image)
        best = batched_nms(boxes, image_scores, image_classes, nms_iou)[:max_detections]
        arrays = [values[best].cpu().numpy() for values in (boxes, image_classes, image_scores)]
        detections.append(Detections(arrays[0], arrays[1], (input_size, input_size), scores=arrays[2]))
    return detections
