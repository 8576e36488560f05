"""The detection task: its models and losses; data, metric and pictures are in `inference.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor, nn

from backbone.base import Backbone
from backbone.weights import Weights
from datasets.detection.annotated import Categories
from datasets.loader import Collate
from datasets.resizing import resize
from datasets.sources import Preprocess
from datasets.transforms import DetectionAugmentation
from datasets.types import Detections
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task
from tasks.common.weights import TaskWeights, is_model_of
from tasks.detection.config import DetectionConfig
from tasks.detection.faster_rcnn import FasterRCNN, decode_regions
from tasks.detection.faster_rcnn_fpn import FasterRCNNFPN, decode_region_outputs, region_loss
from tasks.detection.inference import DetectionInference, open_data
from tasks.detection.loss import faster_rcnn_loss, ssd_loss
from tasks.detection.matching import DetectionTargets, detection_targets
from tasks.detection.model import Detector
from tasks.detection.onnx_postprocess import region_postprocessing, ssd_postprocessing
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.ssd import SSD, decode_ssd
from tasks.detection.tensorflow import read_graph
from tasks.detection.torchvision import read_torchvision
from tasks.detection.transfer import load_detector

if TYPE_CHECKING:
    from onnx import GraphProto


PAPER_NUM_CLASSES = 90  # of the paper's detectors, without background: COCO's ids from 1 to 90


class DetectionTask(DetectionInference, Task[Detections]):
    """SSD or Faster R-CNN on MobileNet."""

    @cached_property
    def _detector(self) -> Detector:
        return _detector(self.config)

    @classmethod
    def from_data(cls, config: DetectionConfig) -> Self:
        """The task for the categories of the training annotations."""
        data = open_data(config)
        task = cls(config, _metadata(data["train"].categories))
        task._data = data
        return task

    @classmethod
    def read_published(cls, path: Path) -> TaskWeights | None:
        """TensorFlow's and torchvision's detectors, see `tensorflow.py` and `torchvision.py`."""
        if path.suffix == ".pth":
            return read_torchvision(path)
        return read_graph(path) if path.suffix == ".pb" else None

    @classmethod
    def with_num_classes(cls, config: DetectionConfig, num_classes: int | None) -> Self:
        """The task for unnamed classes; by default the paper's 90."""
        ids = tuple(range(1, (num_classes or PAPER_NUM_CLASSES) + 1))
        return cls(config, _metadata(Categories(ids, tuple(map(str, ids)))))

    def build_model(self) -> nn.Module:
        """The detector with the configured weights: a backbone's, or those of a detector as far as they fit."""
        weights = open_pretrained(self.config, self.name)
        network = self._detector.build(build_pretrained(self.config, weights), len(self.class_names))
        if is_model_of(weights, self.name):
            load_detector(network, weights, self.class_names, self.config)
        return network

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and of a detector what else fits, with the classes that it knows."""
        if not is_model_of(weights, self.name):
            return super().kept(weights)
        network = self._detector.build(build_pretrained(self.config, weights), len(self.class_names))
        return load_detector(network, weights, self.class_names, self.config)

    def classes_of(self, truths: Sequence[Detections]) -> list[list[int]]:
        """The classes of the objects in each image, without crowds."""
        return [
            truth.class_ids[np.ones(len(truth), bool) if truth.is_crowd is None else ~truth.is_crowd].tolist()
            for truth in truths
        ]

    def augmentation(self) -> DetectionAugmentation:
        """SSD's augmentation."""
        data = self.config.data
        return DetectionAugmentation(data.input_size, self.config.augment.strength, antialias=data.antialias)

    def preprocessing(self) -> Preprocess:
        """The same as for an exported network, faster."""
        data = self.config.data
        return partial(resize, input_size=data.input_size, antialias=data.antialias)

    def collate(self) -> Collate[Detections]:
        """Padded objects."""
        return detection_targets

    def loss(self, outputs: Any, targets: DetectionTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """The detector's loss."""
        return self._detector.loss(outputs, targets, world)

    @property
    def _postprocess_config(self) -> PostprocessConfig:
        config = self.config
        return PostprocessConfig(config.data.input_size, config.score_threshold, config.nms_iou, config.max_detections)

    def decode(self, outputs: Any) -> list[Detections]:
        """Boxes in the frame of the network's input."""
        return self._detector.decode(outputs, self._postprocess_config)

    def postprocessing(self, network: nn.Module) -> GraphProto:
        """The boxes after suppression."""
        num_classes = len(self.class_names)
        if isinstance(network, SSD):
            return ssd_postprocessing(
                self._postprocess_config,
                num_anchors=len(network.anchors),
                num_classes=num_classes,
                scores=self.config.ssd.scores,
            )
        return region_postprocessing(
            self._postprocess_config,
            num_regions=self.config.faster_rcnn.num_proposals,
            num_classes=num_classes,
            has_logits=isinstance(network, FasterRCNN),
        )


def _detector(config: DetectionConfig) -> Detector:
    if config.model == "ssd":
        ssd = config.ssd
        build: Callable[[Backbone, int], nn.Module] = partial(
            SSD,
            input_size=config.data.input_size,
            neck=ssd.neck,
            finest_map=ssd.finest_map,
            extra_layers=ssd.extra_layers,
            anchors=ssd.anchors,
            predictor=ssd.predictor,
            scores=ssd.scores,
        )
        loss = partial(ssd_loss, match_iou=ssd.match_iou, scores=ssd.scores)
        return Detector(build, loss, partial(decode_ssd, scores=ssd.scores))
    faster_rcnn = config.faster_rcnn
    if config.model == "faster_rcnn_fpn":
        build = partial(FasterRCNNFPN, num_proposals=faster_rcnn.num_proposals, num_sampled=faster_rcnn.num_sampled)
        return Detector(build, region_loss, decode_region_outputs)
    build = partial(
        FasterRCNN,
        input_size=config.data.input_size,
        anchor_scales=faster_rcnn.anchor_scales,
        num_proposals=faster_rcnn.num_proposals,
        num_sampled=faster_rcnn.num_sampled,
    )
    return Detector(build, partial(faster_rcnn_loss, match_iou=faster_rcnn.match_iou), decode_regions)


def _metadata(categories: Categories) -> dict[str, Any]:
    return {"category_ids": list(categories.ids), "class_names": list(categories.names)}
