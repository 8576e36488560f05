"""Faster R-CNN on MobileNet: the network and the decoding of its raw outputs. The loss is in `loss.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import roi_align

from backbone.base import Backbone
from datasets.types import Detections
from tasks.common.deploy.difference import in_order_of
from tasks.detection.anchors import build_anchors, grid_sizes, rpn_shapes
from tasks.detection.boxes import decode, has_area
from tasks.detection.matching import DetectionTargets, assign, gather_rows, sample_balanced
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.proposals import MAX_DISTANCE, ONNX_OPERATORS, best_regions, decode_scored_regions

STRIDE = 16  # of the feature map that regions are cropped from: conv 11 of Table 1
CROP_CELLS = 14
MAX_CANDIDATES = 2000  # anchors per image that enter non-maximum suppression
PROPOSAL_NMS_IOU = 0.7
REGION_IOU = 0.5  # lowest IoU at which a region is matched to an object; below it is background
POSITIVE_FRACTION = 0.25  # of the regions sampled for training, at most


class FasterRCNNOutputs(NamedTuple):
    """Raw outputs of both stages, for every anchor and every region.

    Attributes:
        objectness: (N, A) logits.
        anchor_deltas: (N, A, 4), offsets from the anchors.
        anchors: (A, 4) centre and size, as fractions of the image.
        regions_xyxy: (N, R, 4), as fractions of the image; regions without area are padding.
        class_logits: (N, R, K + 1), background first.
        box_deltas: (N, R, K + 1, 4), offsets from the regions, per class.
    """

    objectness: Tensor
    anchor_deltas: Tensor
    anchors: Tensor
    regions_xyxy: Tensor
    class_logits: Tensor
    box_deltas: Tensor

    def order(self, other: Any) -> Any:
        """The same outputs computed again, with the regions in this order; see `in_order_of`."""
        return in_order_of(self, other, "regions_xyxy", ("regions_xyxy", "class_logits", "box_deltas"), MAX_DISTANCE)


class FasterRCNN(nn.Module):
    """Region proposals on the feature map of conv 11; each region is cropped from it and passed through conv 12-13.

    At width 1.0, 300 proposals and 91 outputs: 25.2 B mult-adds at 300 px, 30.5 B at 600 px, 6.06 M parameters.

    Source: Howard et al. 2017, section 4.6 and Table 13; Ren et al. 2015 (arXiv:1506.01497); sizes of Huang et al. 2017
    (arXiv:1611.10012).
    """

    num_backgrounds = 1  # outputs before those of the classes
    needs_targets = True  # training regions are sampled around the true boxes
    onnx_operators = ONNX_OPERATORS
    anchors: Tensor

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        input_size: int,
        anchor_scales: Sequence[float] = (0.1, 0.2, 0.4, 0.8),
        num_proposals: int = 300,
        num_sampled: int = 64,
    ) -> None:
        """Build with random weights for all but the backbone.

        Args:
            backbone: its layers up to stride 16 take the image, the others each region.
            num_classes: K, without background.
            input_size: S, side of the images in pixels.
            anchor_scales: sizes of the anchors as fractions of the image's side, each in three aspect ratios.
            num_proposals: regions per image.
            num_sampled: regions per image in training.
        """
        super().__init__()
        self.backbone = backbone
        self.num_proposals = num_proposals
        self.num_sampled = num_sampled
        shapes, sizes_hw = rpn_shapes(anchor_scales), grid_sizes(input_size, [STRIDE])
        # Cells are 16 px apart at any image size, so the last ones may reach over its edge: at 300 px there are 19,
        # which are 304 px wide.
        self.map_extent = STRIDE * sizes_hw[0][0] / input_size
        anchors = build_anchors(sizes_hw, [shapes], extent=self.map_extent)
        self.register_buffer("anchors", anchors, persistent=False)  # constant; moves with the module
        self.rpn = RPNHead(backbone.channels[STRIDE], len(shapes))
        self.predictor = FastRCNNPredictor(backbone.num_features, num_classes + 1)
        for layer, std in ((self.predictor.cls_score, 0.01), (self.predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        self.to(memory_format=torch.channels_last)

    def class_layouts(self) -> dict[str, tuple[int, int]]:
        """The parameters with a part for each class: rows before the class and after it, see `transfer.py`."""
        layers = {"cls_score": (1, 1), "bbox_pred": (1, 4)}
        return {f"predictor.{name}.{kind}": layout for name, layout in layers.items() for kind in ("weight", "bias")}

    def forward(self, images: Tensor, targets: DetectionTargets | None = None) -> FasterRCNNOutputs:
        """Raw outputs for A anchors and R regions.

        Args:
            images: uint8 RGB (N, 3, S, S).
            targets: if given, the regions are sampled from proposals and true boxes, for training; else the proposals.
        """
        features = self.backbone.trunk(images, STRIDE)
        (objectness,), (anchor_deltas,) = self.rpn([features])
        objectness = objectness.permute(0, 2, 3, 1).flatten(1)  # (N, A), in the order of the anchors
        anchor_deltas = anchor_deltas.permute(0, 2, 3, 1).reshape(*objectness.shape, 4)
        regions_xyxy = propose(objectness, anchor_deltas, self.anchors, self.num_proposals)
        if targets is not None:
            regions_xyxy = sample_regions(regions_xyxy, targets, self.num_sampled)

        crops = crop_regions(features, regions_xyxy / self.map_extent)
        class_logits, box_deltas = self.predictor(self.backbone.tail(crops, STRIDE).mean((2, 3)))
        return FasterRCNNOutputs(
            objectness,
            anchor_deltas,
            self.anchors,
            regions_xyxy,
            class_logits.reshape(*regions_xyxy.shape[:2], -1),
            box_deltas.reshape(*regions_xyxy.shape[:2], -1, 4),
        )


@torch.no_grad()
def propose(objectness: Tensor, anchor_deltas: Tensor, anchors: Tensor, num_proposals: int) -> Tensor:
    """The best boxes of the first stage after non-maximum suppression.

    Args:
        objectness: (N, A) logits.
        anchor_deltas: (N, A, 4).
        anchors: (A, 4) centre and size.
        num_proposals: R, per image.

    Returns:
        (N, R, 4), as fractions of the image, best first, padded with boxes without area.
    """
    scores, rows = objectness.float().topk(min(MAX_CANDIDATES, len(anchors)))
    boxes_xyxy = decode(gather_rows(anchor_deltas.float(), rows), anchors[rows]).clamp(0, 1)
    scores = scores.masked_fill(~has_area(boxes_xyxy), -torch.inf)
    return best_regions(boxes_xyxy, scores[:, None], num_proposals, PROPOSAL_NMS_IOU)


def crop_regions(features: Tensor, regions_xyxy: Tensor) -> Tensor:
    """RoIAlign with one sample per cell: regions cropped from feature maps by bilinear interpolation.

    torchvision's `roi_align` gives the same, but its backward pass on a CPU uses a single core. Exported files use it,
    since ONNX Runtime's is faster than its interpolation.

    Args:
        features: (N, C, H, W).
        regions_xyxy: (N, R, 4), as fractions of the feature map's extent.

    Returns:
        (N * R, C, 14, 14), channels last in memory.

    Source: He et al. 2017 (arXiv:1703.06870), section 3, "RoIAlign"; one sample, as crops are finer than the map.
    """
    num_images, num_regions = regions_xyxy.shape[:2]
    if torch.compiler.is_exporting():
        height, width = features.shape[2:]
        image_ids = torch.arange(num_images, dtype=regions_xyxy.dtype).repeat_interleave(num_regions)
        boxes = regions_xyxy.flatten(0, 1) * torch.tensor([width, height, width, height])
        numbered = torch.cat([image_ids[:, None], boxes], 1)
        crops: Tensor = roi_align(features, numbered, CROP_CELLS, 1, sampling_ratio=1, aligned=True)
        return crops
    fractions = (torch.arange(CROP_CELLS, device=features.device) + 0.5) / CROP_CELLS
    low, high = regions_xyxy[:, :, None, :2], regions_xyxy[:, :, None, 2:]
    x, y = (low + (high - low) * fractions[:, None]).unbind(-1)  # (N, R, 14) each
    shape = (num_images, num_regions, CROP_CELLS, CROP_CELLS)
    points = torch.stack([x[:, :, None].expand(shape), y[..., None].expand(shape)], -1)
    samples = functional.grid_sample(
        features, 2 * points.flatten(1, 2) - 1, padding_mode="border", align_corners=False
    )  # (N, C, R * 14, 14)
    samples = samples.reshape(num_images, -1, num_regions, CROP_CELLS, CROP_CELLS).permute(0, 2, 3, 4, 1)
    return samples.flatten(0, 1).permute(0, 3, 1, 2)


@torch.no_grad()
def sample_regions(proposals: Tensor, targets: DetectionTargets, num_sampled: int) -> Tensor:
    """A sample of the proposals and the true boxes, at most a quarter of them positive: (N, num_sampled, 4).

    Shorter if there are fewer candidates, and padded with boxes without area.
    """
    candidates = torch.cat([proposals, targets.boxes_xyxy], 1)
    assigned = assign(candidates, targets, build_region_matcher())
    positive, negative = sample_balanced(assigned, num_sampled, POSITIVE_FRACTION, targets.seeds)
    sampled = positive | negative
    rows = sampled.byte().argsort(dim=1, descending=True, stable=True)[:, :num_sampled]
    return gather_rows(candidates, rows) * sampled.gather(1, rows)[..., None]


def build_region_matcher() -> Matcher:
    """Matches a region to the object with the highest IoU, if that is at least `REGION_IOU`."""
    return Matcher(REGION_IOU, REGION_IOU, allow_low_quality_matches=False)


def decode_regions(outputs: FasterRCNNOutputs, config: PostprocessConfig) -> list[Detections]:
    """Scored boxes of each image, best first."""
    scores = outputs.class_logits.softmax(-1)[..., 1:]
    return decode_scored_regions(scores, outputs.regions_xyxy, outputs.box_deltas, config)
