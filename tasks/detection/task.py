"""The detection task: its data, models, losses, metric and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from backbone.base import Backbone
from backbone.weights import Weights
from datasets.detection.annotated import AnnotatedImages, Categories
from datasets.detection.read import open_detection
from datasets.drawing.boxes import draw_detections
from datasets.files import existing_folder
from datasets.loader import Collate, Preprocess
from datasets.resizing import resize
from datasets.sample.detection import sample_root
from datasets.splits import Holdout, SplitData
from datasets.transforms import DetectionAugmentation
from datasets.types import Detections, Image, Split
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runs.threshold import resolve_threshold
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import FailureCase, Task
from tasks.common.weights import TaskWeights
from tasks.detection.config import DetectionConfig
from tasks.detection.draw import draw_failure_case
from tasks.detection.faster_rcnn import FasterRCNN, decode_regions
from tasks.detection.faster_rcnn_fpn import FasterRCNNFPN, decode_scored_regions, region_loss
from tasks.detection.loss import faster_rcnn_loss, ssd_loss
from tasks.detection.matching import DetectionTargets, detection_targets
from tasks.detection.metric import DetectionMetric, worst_false_positive
from tasks.detection.model import Detector
from tasks.detection.postprocess import PostprocessConfig
from tasks.detection.ssd import SSD, decode_ssd
from tasks.detection.summary import summarize_detections
from tasks.detection.tensorflow import read_graph
from tasks.detection.torchvision import read_torchvision
from tasks.detection.transfer import is_detector, load_detector

PAPER_NUM_CLASSES = 90  # of the paper's detectors, without background: COCO's ids from 1 to 90


class DetectionTask(Task[Detections]):
    """SSD or Faster R-CNN on MobileNet."""

    name = "detection"
    score_name = "AP"

    def __init__(self, config: DetectionConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: `category_ids` and `class_names`, by class id."""
        super().__init__(config, metadata)
        self.class_names: list[str] = metadata["class_names"]
        self._detector = _detector(config)
        self.threshold = resolve_threshold(config.threshold, run=None)  # `load_model` has looked up what is no number

    @classmethod
    def from_data(cls, config: DetectionConfig) -> Self:
        """The task for the categories of the training annotations."""
        data = _open(config)
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
        if is_detector(weights):
            load_detector(network, weights, self.class_names, self.config)
        return network

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and of a detector what else fits, with the classes that it knows."""
        if not is_detector(weights):
            return super().kept(weights)
        network = self._detector.build(build_pretrained(self.config, weights), len(self.class_names))
        return load_detector(network, weights, self.class_names, self.config)

    def classes_of(self, truths: Sequence[Detections]) -> list[list[int]]:
        """The classes of the objects in each image, without crowds."""
        return [
            truth.class_ids[np.ones(len(truth), bool) if truth.is_crowd is None else ~truth.is_crowd].tolist()
            for truth in truths
        ]

    def _open_data(self) -> SplitData[AnnotatedImages]:
        return _open(self.config)

    def source(self, split: Split) -> AnnotatedImages:
        """The annotated images of a split, with the task's class ids.

        Raises:
            MissingSplitError: if the data have no such split.
            ValueError: if the annotations are faulty, or have objects of other categories than the task.
        """
        categories = Categories(tuple(self.metadata["category_ids"]), tuple(self.class_names))
        source: AnnotatedImages = self.data[split].with_categories(categories)
        source.decoding = self.decoding
        return source

    def augmentation(self) -> DetectionAugmentation:
        """SSD's augmentation."""
        data = self.config.data
        return DetectionAugmentation(data.input_size, self.config.augment.strength, antialias=data.antialias)

    def preprocessing(self) -> Preprocess:
        """Resizing to the input size, without keeping the aspect ratio."""
        data = self.config.data
        return partial(resize, input_size=data.input_size, antialias=data.antialias)

    def collate(self) -> Collate[Detections]:
        """Padded objects."""
        return detection_targets

    def loss(self, outputs: Any, targets: DetectionTargets, world: World = SINGLE_PROCESS) -> dict[str, Tensor]:
        """The detector's loss."""
        return self._detector.loss(outputs, targets, world)

    def decode(self, outputs: Any) -> list[Detections]:
        """Boxes in the frame of the network's input."""
        config = self.config
        thresholds = (config.score_threshold, config.nms_iou, config.max_detections)
        return self._detector.decode(outputs, PostprocessConfig(config.data.input_size, *thresholds))

    def metric(self) -> DetectionMetric:
        """COCO's average precision."""
        return DetectionMetric(self.class_names, self.config.score_threshold)

    def failure_case(self, predicted: Detections, truth: Detections) -> FailureCase[Detections] | None:
        """The false positive with the highest score."""
        return worst_false_positive(predicted, truth, self.class_names)

    def draw(self, image: Image, predicted: Detections, truth: Detections | None = None) -> Image:
        """The boxes with a score of at least `threshold`, and the true ones."""
        return draw_detections(image, self._shown(predicted), truth, self.class_names)

    def draw_failure_case(self, image: Image, case: FailureCase[Detections], truth: Detections) -> Image:
        """The wrong box and its surroundings."""
        return draw_failure_case(image, case.predicted, truth, self.class_names)

    def describe(self, predicted: Detections, image_hw: tuple[int, int]) -> dict[str, Any]:
        """The boxes with a score of at least `threshold`, in pixels of the image, with official category ids."""
        shown = self._shown(predicted).resized(image_hw)
        assert shown.scores is not None
        return {
            "detections": [
                {
                    "class_name": self.class_names[class_id],
                    "category_id": self.metadata["category_ids"][class_id],
                    "score": round(float(score), 4),
                    "box_xyxy": [round(float(value), 1) for value in box],
                }
                for box, class_id, score in zip(shown.boxes_xyxy, shown.class_ids, shown.scores, strict=True)
            ]
        }

    def in_image(self, predicted: Detections, image_hw: tuple[int, int]) -> Detections:
        """The boxes with a score of at least `threshold`, in pixels of the image."""
        return self._shown(predicted).resized(image_hw)

    def summarize(self, predicted: Sequence[Detections]) -> str:
        """The classes with their scores, such as "2 x dog 0.93 0.88, bicycle 0.71"."""
        return summarize_detections(self._shown(predicted[0]), self.class_names, self.threshold)

    def table(self, predicted: Sequence[Detections]) -> dict[str, NDArray[Any]]:
        """A row for each box."""
        shown = self._shown(predicted[0])
        return {
            "class_name": np.array(self.class_names, str)[shown.class_ids],
            "category_id": np.array(self.metadata["category_ids"], np.int64)[shown.class_ids],
            "score": np.asarray(shown.scores),
            **dict(zip(("x0", "y0", "x1", "y1"), shown.boxes_xyxy.T, strict=True)),
        }

    def _shown(self, predicted: Detections) -> Detections:
        if predicted.scores is None:
            return predicted
        return predicted.select(np.asarray(predicted.scores >= self.threshold))


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
        return Detector(build, region_loss, decode_scored_regions)
    build = partial(
        FasterRCNN,
        input_size=config.data.input_size,
        anchor_scales=faster_rcnn.anchor_scales,
        num_proposals=faster_rcnn.num_proposals,
        num_sampled=faster_rcnn.num_sampled,
    )
    return Detector(build, partial(faster_rcnn_loss, match_iou=faster_rcnn.match_iou), decode_regions)


def _open(config: DetectionConfig) -> SplitData[AnnotatedImages]:
    data = config.data
    return open_detection(
        sample_root() if data.root is None else existing_folder(data.root),
        format=data.format,
        images={"train": data.train_images, "val": data.val_images},
        annotations={"train": data.train_annotations, "val": data.val_annotations},
        holdout=Holdout.from_settings(data.val_fraction, data.fold),
    )


def _metadata(categories: Categories) -> dict[str, Any]:
    return {"category_ids": list(categories.ids), "class_names": list(categories.names)}
