"""torchvision's Faster R-CNN with a feature pyramid, on our backbones; its stages and losses are torchvision's own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import FeaturePyramidNetwork, clip_boxes_to_image, roi_align
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from backbone.base import Backbone
from datasets.types import Detections
from tasks.common.deploy.difference import in_order_of
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.detection.boxes import has_area
from tasks.detection.matching import DetectionTargets, gather_rows
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.proposals import MAX_DISTANCE, ONNX_OPERATORS, best_regions, decode_scored_regions

STRIDE = 16  # the pyramid's maps come from the layers after this stride
PYRAMID_CHANNELS, NUM_MAPS = 256, 3
ANCHOR_SIZES_PX, ASPECT_RATIOS = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
MIN_OBJECTNESS = 0.05  # of a region
# torchvision chooses the map to crop a region from by the maps' strides: of the first two, which are the same, it takes
# the first.
CROPPED_MAP, CROPPED_STRIDE = "0", 32
CROP_CELLS, SAMPLES_PER_CELL = 7, 2  # per side; torchvision's defaults
LOSSES = {  # torchvision's name -> ours
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposals",
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
}


class RegionOutputs(NamedTuple):
    """Raw outputs of the second stage, and in training the losses of both; each is empty where it is not computed.

    Attributes:
        regions_xyxy: (N, R, 4), as fractions of the image; regions without area are padding.
        class_scores: (N, R, K), probabilities of the classes without background; 0 for padding.
        box_deltas: (N, R, K + 1, 4), offsets from the regions, per class, background first.
        losses: (4,), in the order of `LOSSES`.
    """

    regions_xyxy: Tensor
    class_scores: Tensor
    box_deltas: Tensor
    losses: Tensor

    def order(self, other: Any) -> Any:
        """The same outputs computed again, with the regions in this order; see `in_order_of`."""
        return in_order_of(self, other, "regions_xyxy", ("regions_xyxy", "class_scores", "box_deltas"), MAX_DISTANCE)


class FasterRCNNFPN(nn.Module):
    """Regions proposed from a pyramid of three maps and classified by two fully connected layers.

    The maps are those of the first and the last layer at stride 32, and one at stride 64. On MobileNet v3 large it is
    torchvision's `fasterrcnn_mobilenet_v3_large_fpn`, or with 150 proposals its `..._320_fpn`.

    Source: Ren et al. 2015 (arXiv:1506.01497); Lin et al. 2017 (arXiv:1612.03144).
    """

    num_backgrounds = 1  # outputs before those of the classes
    needs_targets = True  # training regions are sampled around the true boxes
    onnx_operators = ONNX_OPERATORS

    def __init__(
        self, backbone: Backbone, num_classes: int, *, num_proposals: int = 300, num_sampled: int = 64
    ) -> None:
        """Build with random weights for all but the backbone.

        Args:
            backbone: with two layers or more at stride 32.
            num_classes: K, without background.
            num_proposals: regions per image, at most.
            num_sampled: regions per image in training; torchvision's default is 512.
        """
        super().__init__()
        self.backbone = backbone
        first = [module for module in self._last_stage()[0].modules() if isinstance(module, nn.Conv2d)]
        self.neck = FeaturePyramidNetwork(
            [first[-1].out_channels, backbone.num_features], PYRAMID_CHANNELS, LastLevelMaxPool()
        )
        self.neck.out_channels = PYRAMID_CHANNELS  # torchvision asks a backbone for it
        network = FasterRCNN(
            self.neck,
            num_classes + 1,
            rpn_anchor_generator=AnchorGenerator((ANCHOR_SIZES_PX,) * NUM_MAPS, (ASPECT_RATIOS,) * NUM_MAPS),
            rpn_score_thresh=MIN_OBJECTNESS,
            rpn_pre_nms_top_n_test=num_proposals,
            rpn_post_nms_top_n_test=num_proposals,
            box_batch_size_per_image=num_sampled,
        )
        self.rpn, self.roi_heads = network.rpn, network.roi_heads  # without its resizing and normalisation
        self.to(memory_format=torch.channels_last)

    def class_layouts(self) -> dict[str, tuple[int, int]]:
        """The parameters with a part for each class: rows before the class and after it, see `transfer.py`."""
        layers = {"cls_score": (1, 1), "bbox_pred": (1, 4)}
        return {
            f"roi_heads.box_predictor.{name}.{kind}": layout
            for name, layout in layers.items()
            for kind in ("weight", "bias")
        }

    def forward(self, images: Tensor, targets: DetectionTargets | None = None) -> RegionOutputs:
        """Raw outputs for R regions, or in training the losses.

        Args:
            images: uint8 RGB (N, 3, S, S); S is a multiple of 32, since torchvision pads other images.
            targets: if given, the losses are computed.
        """
        features = self.backbone.trunk(images, STRIDE)
        first, *rest = self._last_stage()
        first_map = features = first(features)
        for layer in rest:
            features = layer(features)
        maps = self.neck(OrderedDict([("0", first_map), ("1", features)]))
        if targets is not None:
            return self._losses(images, maps, targets)
        return self._regions(images, maps)

    def _last_stage(self) -> nn.Sequential:
        """The backbone's layers at stride 32."""
        return self.backbone.stages()[-1]

    def _regions(self, images: Tensor, maps: dict[str, Tensor]) -> RegionOutputs:
        regions = self._propose(images, list(maps.values()))
        image_ids, rows = has_area(regions).nonzero(as_tuple=True)  # the second stage takes no padding
        rois = torch.cat([image_ids[:, None].to(regions), regions[image_ids, rows]], 1)
        crops = roi_align(maps[CROPPED_MAP], rois, CROP_CELLS, 1 / CROPPED_STRIDE, SAMPLES_PER_CELL)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(crops))
        scores, box_deltas = logits.softmax(-1)[:, 1:], deltas.unflatten(1, (-1, 4))
        padded_scores, padded_deltas = (
            values.new_zeros(*regions.shape[:2], *values.shape[1:]).index_put((image_ids, rows), values)
            for values in (scores, box_deltas)
        )
        return RegionOutputs(regions / images.shape[-1], padded_scores, padded_deltas, logits.new_zeros(0))

    def _propose(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """(N, R, 4) regions in pixels: torchvision's `RegionProposalNetwork`, which has a loop over the images."""
        map_logits, map_deltas = self.rpn.head(maps)
        num_anchors = [logits[0].numel() for logits in map_logits]
        logits, deltas = concat_box_prediction_layers(map_logits, map_deltas)
        num_images, _, *size = images.shape
        logits, deltas = logits.reshape(num_images, -1), deltas.reshape(num_images, -1, 4)
        (anchors,) = self.rpn.anchor_generator(ImageList(images[:1], [tuple(size)]), maps)
        top = self.rpn._get_top_n_idx(logits, num_anchors)
        deltas = gather_rows(deltas, top)
        boxes = self.rpn.box_coder.decode_single(deltas.flatten(0, 1), anchors[top].flatten(0, 1)).view_as(deltas)
        boxes, scores = clip_boxes_to_image(boxes, tuple(size)), logits.gather(1, top)
        sides = boxes[..., 2:] - boxes[..., :2]
        is_valid = (sides >= self.rpn.min_size).all(-1) & (scores.sigmoid() >= MIN_OBJECTNESS)
        map_ids = torch.cat([torch.full((count,), index) for index, count in enumerate(num_anchors)]).to(top.device)
        is_of_map = map_ids[top][:, None] == torch.arange(len(maps), device=top.device)[:, None]
        scores = torch.where(is_of_map & is_valid[:, None], scores[:, None], -torch.inf)
        return best_regions(boxes, scores, self.rpn.post_nms_top_n(), self.rpn.nms_thresh)

    def _losses(self, images: Tensor, maps: dict[str, Tensor], targets: DetectionTargets) -> RegionOutputs:
        sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        objects = []
        for boxes_xyxy, class_ids in zip(targets.boxes_xyxy, targets.class_ids, strict=True):
            is_object = (class_ids >= 0) & has_area(boxes_xyxy)
            boxes, labels = boxes_xyxy[is_object] * images.shape[-1], class_ids[is_object] + 1
            objects.append({"boxes": boxes, "labels": labels})
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            torch.manual_seed(int(targets.seeds.sum()))  # torchvision samples by the global generator
            regions, losses = self.rpn(ImageList(images, sizes), maps, objects)
            _, head_losses = self.roi_heads(maps, regions, sizes, objects)
        losses |= head_losses
        empty = maps["0"].new_zeros(len(images), 0, 4)
        return RegionOutputs(empty, empty, empty[..., None], torch.stack([losses[name] for name in LOSSES]))


def region_loss(outputs: RegionOutputs, targets: DetectionTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
    """The losses that the network has computed, and `total`, their sum.

    torchvision divides them by the number of sampled anchors and regions of this process, which is nearly the same in
    all of them.
    """
    return {"total": outputs.losses.sum(), **dict(zip(LOSSES.values(), outputs.losses, strict=True))}


def decode_region_outputs(outputs: RegionOutputs, config: PostprocessConfig) -> list[Detections]:
    """Scored boxes of each image, best first."""
    return decode_scored_regions(outputs.class_scores, outputs.regions_xyxy, outputs.box_deltas, config)
