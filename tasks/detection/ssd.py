"""SSD on MobileNet: the network and the decoding of its raw outputs. The loss is in `loss.py`."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from backbone.base import Backbone
from backbone.layers import ConvBNReLU, Conventions
from datasets.types import Detections
from tasks.detection.anchors import build_anchors, grid_sizes
from tasks.detection.boxes import decode
from tasks.detection.config import Anchors, ExtraLayers, FinestMap, Neck, Predictor, Scores
from tasks.detection.necks import FPN, SSDExtraLayers
from tasks.detection.postprocess import PostprocessConfig, postprocess


class SSDOutputs(NamedTuple):
    """Raw outputs of every anchor.

    Attributes:
        class_logits: (N, A, K + 1), background first; (N, A, K) where scores are sigmoids.
        box_deltas: (N, A, 4), offsets from the anchors.
        anchors: (A, 4) centre and size, as fractions of the image.
    """

    class_logits: Tensor
    box_deltas: Tensor
    anchors: Tensor


class SSD(nn.Module):
    """Single shot detector: predicts classes and boxes from feature maps of several strides.

    The paper's model, at 300 px and width 1.0: grids 19, 10, 5, 3, 2, 1 and 1,917 anchors; with 91 outputs 1,237 M
    mult-adds and 6.82 M parameters. The networks that TensorFlow and torchvision publish are other settings of it.

    Attributes:
        num_classes: K, without background.
        num_backgrounds: outputs before those of the classes: 1, or 0 where scores are sigmoids.

    Source: Howard et al. 2017, section 4.6 and Table 13; Liu et al. 2016 (arXiv:1512.02325).
    """

    anchors: Tensor

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        input_size: int,
        neck: Neck = "extra_layers",
        finest_map: FinestMap = "layer",
        extra_layers: ExtraLayers = "full",
        anchors: Anchors = "tensorflow",
        predictor: Predictor = "pointwise",
        scores: Scores = "softmax",
    ) -> None:
        """Build with random weights for all but the backbone.

        Args:
            backbone: its width also scales the neck.
            num_classes: K, without background.
            input_size: S, side of the images in pixels.
            neck: SSD's `extra_layers`, as in the paper, an `fpn`, or an `fpn_extra_layers`.
            finest_map: see `SSDExtraLayers`, as for the next two; they do not apply to an `fpn`.
            extra_layers: see there.
            anchors: see there.
            predictor: `pointwise` convolutions of 1x1, `full` ones of 3x3, or `separable` ones of 3x3 (Sandler et al.
                2018, section 6.2).
            scores: `softmax` over the classes and a background, or a `sigmoid` for each class.
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.num_backgrounds = int(scores == "softmax")
        self._last_layer = int(predictor == "separable")  # of each predictor
        self.neck = (
            SSDExtraLayers(backbone, finest_map=finest_map, extra_layers=extra_layers, anchors=anchors)
            if neck == "extra_layers"
            else FPN(backbone, with_extra_layers=neck == "fpn_extra_layers")
        )
        pairs = [(c, len(shapes)) for c, shapes in zip(self.neck.channels, self.neck.anchor_shapes, strict=True)]
        build = partial(_build_predictor, predictor, backbone.conventions)
        self.class_predictors = nn.ModuleList(build(c, n * self._num_outputs) for c, n in pairs)
        self.box_predictors = nn.ModuleList(build(c, n * 4) for c, n in pairs)
        for layers in (*self.class_predictors, *self.box_predictors):
            nn.init.normal_(layers[-1].weight, std=0.01)
            nn.init.zeros_(layers[-1].bias)
        boxes = build_anchors(grid_sizes(input_size, self.neck.strides), self.neck.anchor_shapes)
        self.register_buffer("anchors", boxes, persistent=False)  # constant; moves with the module
        self.to(memory_format=torch.channels_last)

    @property
    def _num_outputs(self) -> int:
        """Class outputs of an anchor."""
        return self.num_classes + self.num_backgrounds

    def class_layouts(self) -> dict[str, tuple[int, int]]:
        """The parameters with a part for each class: rows before the class and after it, see `transfer.py`."""
        return {
            f"class_predictors.{index}.{self._last_layer}.{kind}": (len(shapes), 1)
            for index, shapes in enumerate(self.neck.anchor_shapes)
            for kind in ("weight", "bias")
        }

    def forward(self, images: Tensor) -> SSDOutputs:
        """uint8 RGB (N, 3, S, S) -> raw outputs for A anchors."""
        return self.from_feature_maps(self.backbone.features(images))

    def from_feature_maps(self, features: dict[int, Tensor]) -> SSDOutputs:
        """The backbone's feature maps by stride -> raw outputs for A anchors."""
        feature_maps = self.neck(features)
        return SSDOutputs(
            _predict(self.class_predictors, feature_maps, self._num_outputs),
            _predict(self.box_predictors, feature_maps, 4),
            self.anchors,
        )


def _build_predictor(kind: Predictor, conventions: Conventions, in_channels: int, out_channels: int) -> nn.Sequential:
    kernel_size = 3 if kind == "full" else 1
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)]
    if kind == "separable":
        layers.insert(0, ConvBNReLU(in_channels, in_channels, 3, conventions, groups=in_channels))
    return nn.Sequential(*layers)


def _predict(predictors: nn.ModuleList, feature_maps: list[Tensor], size: int) -> Tensor:
    """(N, shapes * size, H, W) of every feature map -> (N, A, size); no copy where channels are last in memory."""
    pairs = zip(predictors, feature_maps, strict=True)
    predictions = [predictor(feature_map).permute(0, 2, 3, 1) for predictor, feature_map in pairs]
    return torch.cat([prediction.reshape(prediction.shape[0], -1, size) for prediction in predictions], 1)


def decode_ssd(outputs: SSDOutputs, config: PostprocessConfig, *, scores: Scores = "softmax") -> list[Detections]:
    """Scored boxes of each image, best first."""
    logits = outputs.class_logits

    def decode_boxes(rows: Tensor, _class_ids: Tensor) -> Tensor:
        return decode(outputs.box_deltas.flatten(0, 1)[rows], outputs.anchors[rows % len(outputs.anchors)])

    probabilities = logits.sigmoid() if scores == "sigmoid" else logits.softmax(-1)[..., 1:]
    return postprocess(probabilities, decode_boxes, config)
