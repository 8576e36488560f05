"""Settings of the detection task. The defaults are the paper's SSD300; `configs/detection/` has recipes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from backbone.names import parse_name
from tasks.common.config import DataConfig, TaskConfig, VerbSettings, require_size_of_name
from tasks.common.ranges import (
    ClosedUnit,
    InputSize,
    LeftOpenUnit,
    PositiveInt,
    RightOpenUnit,
    Settings,
    require,
    require_threshold,
)

BACKGROUND_IOU = 0.3  # of Faster R-CNN: anchors with a lower IoU with every object are background
POSTPROCESSING = ("faster_rcnn.num_proposals", "score_threshold", "nms_iou", "max_detections")
DETECTOR = (
    "model",
    "ssd.neck",
    "ssd.finest_map",
    "ssd.extra_layers",
    "ssd.anchors",
    "ssd.predictor",
    "ssd.scores",
    "faster_rcnn.anchor_scales",
    "faster_rcnn.num_proposals",
)
OF_EXTRA_LAYERS = ("finest_map", "extra_layers", "anchors")  # settings of SSD that do nothing with a pyramid
Neck = Literal["extra_layers", "fpn", "fpn_extra_layers"]
FinestMap = Literal["layer", "expansion"]
ExtraLayers = Literal["full", "separable"]
Anchors = Literal["tensorflow", "torchvision"]
Predictor = Literal["pointwise", "full", "separable"]
Scores = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class SSDConfig(Settings, group="ssd"):
    """Settings of SSD; the defaults are the paper's network.

    Args:
        neck: feature maps to predict from: extra_layers (the paper's: the backbone's at strides 16 and 32 and four
            more at strides 64 to 512), fpn (a feature pyramid network at strides 8 to 128, for small objects), or
            fpn_extra_layers (the same with SSD's extra layers at strides 64 and 128: places large objects better).
        finest_map: of the extra layers: the backbone's last layer at stride 16, or on MobileNet v2 and v3 the expansion
            in the next block, which has six times the channels (Sandler et al. 2018).
        extra_layers: their 3x3 convolutions: full (the paper's), or separable (depthwise, then 1x1).
        anchors: of the extra layers: tensorflow (three small ones on the finest map, the paper's), or torchvision (six
            on every map).
        predictor: of classes and boxes on each feature map: pointwise (1x1, the paper's), full (3x3), or separable (3x3
            depthwise, then 1x1: SSDLite's, Sandler et al. 2018).
        scores: softmax over the classes and a background (the paper's), or a sigmoid for each class, without background
            (TensorFlow's published detectors).
        match_iou: lowest IoU at which an anchor is matched to an object in training; below the paper's 0.5 more
            anchors are positive, which helps on small data sets.
    """

    neck: Neck = "extra_layers"
    finest_map: FinestMap = "layer"
    extra_layers: ExtraLayers = "full"
    anchors: Anchors = "tensorflow"
    predictor: Predictor = "pointwise"
    scores: Scores = "softmax"
    match_iou: LeftOpenUnit = 0.5


@dataclass(frozen=True, kw_only=True)
class FasterRCNNConfig(Settings, group="faster_rcnn"):
    """Settings of Faster R-CNN; of faster_rcnn_fpn num_proposals and num_sampled, the rest of which is torchvision's.

    Args:
        anchor_scales: sizes of the anchors as fractions of the image's side; four, each in three aspect ratios, are
            the paper's 12 anchors. Small objects need small scales.
        match_iou: lowest IoU at which an anchor is matched to an object in training; a lower one gives more positive
            anchors, which helps on small data sets.
        num_proposals: regions per image for the second stage.
        num_sampled: regions sampled per image to train the second stage on.
    """

    anchor_scales: tuple[LeftOpenUnit, ...] = (0.1, 0.2, 0.4, 0.8)
    match_iou: Annotated[float, Interval(gt=BACKGROUND_IOU, le=1)] = 0.7
    num_proposals: PositiveInt = 300
    num_sampled: PositiveInt = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.anchor_scales), "faster_rcnn.anchor_scales", "one or more", self.anchor_scales)


@dataclass(frozen=True, kw_only=True)
class DetectionDataConfig(DataConfig, group="data"):
    """Images and boxes.

    Args:
        format: of the annotations; auto looks for it: COCO's JSON (also Roboflow's export), YOLO's text files, Pascal
            VOC's XML, labelme's JSON, or tar files of WebDataset (shards).
        train_images: folder of COCO's training images, relative to root; null to look for it, as for the next three.
        train_annotations: their JSON file.
        val_images: folder of the validation images.
        val_annotations: their JSON file.
        antialias: filter images that get smaller; false for plain bilinear interpolation, which the published detectors
            are trained with.
    """

    format: Literal["auto", "coco", "yolo", "voc", "labelme", "shards"] = "auto"
    train_images: str | None = None
    train_annotations: str | None = None
    val_images: str | None = None
    val_annotations: str | None = None
    input_size: InputSize = 300
    antialias: bool = True


@dataclass(frozen=True, kw_only=True)
class DetectionAugmentConfig(Settings, group="augment"):
    """Training augmentation.

    Args:
        strength: multiplies the probability of each operation (crop, zoom out, flip, colour jitter): 1 for SSD's
            augmentation, 0 for none.
    """

    strength: ClosedUnit = 1.0


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(TaskConfig):
    """SSD or Faster R-CNN on MobileNet (Howard et al. 2017, section 4.6, Table 13).

    Args:
        data: images and boxes.
        augment: training augmentation.
        model: ssd (one stage, small and fast), faster_rcnn (two stages, 20 times the mult-adds), or faster_rcnn_fpn
            (two stages on a feature pyramid: torchvision's, with its anchors).
        ssd: settings of SSD.
        faster_rcnn: settings of Faster R-CNN.
        score_threshold: boxes with a lower score are dropped before evaluation.
        nms_iou: IoU threshold of non-maximum suppression, per class.
        max_detections: boxes kept per image; COCO's protocol evaluates 100.
        threshold: lowest score of the boxes that are drawn, and written by predict, such as 0.4, f1, precision=0.9 or
            recall=0.8. The words are looked up in the run's newest thresholds.csv, which train and evaluate write: f1
            is the threshold with the highest F1 over all classes, precision=0.9 the lowest with that precision, and
            recall=0.8 the highest with that recall.
    """

    ARCHITECTURE: ClassVar[tuple[str, ...]] = (*TaskConfig.ARCHITECTURE, "data.antialias", *DETECTOR)
    BUILT_IN: ClassVar[tuple[str, ...]] = (*TaskConfig.BUILT_IN, *POSTPROCESSING)
    ACTS_IN: ClassVar[VerbSettings] = {
        "evaluate": (*POSTPROCESSING, "threshold"),
        "predict": ("data.input_size", "data.antialias", *POSTPROCESSING, "threshold"),
        "export": (*POSTPROCESSING, "threshold"),
        "cost": DETECTOR,
        "benchmark": DETECTOR,
    }

    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    augment: DetectionAugmentConfig = field(default_factory=DetectionAugmentConfig)
    model: Literal["ssd", "faster_rcnn", "faster_rcnn_fpn"] = "ssd"
    ssd: SSDConfig = field(default_factory=SSDConfig)
    faster_rcnn: FasterRCNNConfig = field(default_factory=FasterRCNNConfig)
    score_threshold: RightOpenUnit = 0.01
    nms_iou: LeftOpenUnit = 0.5
    max_detections: PositiveInt = 100
    threshold: float | str = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_threshold("threshold", self.threshold)
        require(self.optim.layers != "linear_probe", "optim.layers", "all or gradual in this task", self.optim.layers)
        require_size_of_name(self.backbone, self.data.input_size)
        if self.model == "faster_rcnn_fpn":
            size = self.data.input_size
            require(size % 32 == 0, "data.input_size", "a multiple of 32 with faster_rcnn_fpn, such as 320", size)
        taps = self.is_used("ssd.finest_map") and self.ssd.finest_map == "expansion"
        if taps and parse_name(self.backbone.name).family in ("v1", "resnet50"):
            require(False, "ssd.finest_map", f"layer, since {self.backbone.name} has no expansions", "expansion")

    def is_used(self, key: str) -> bool:
        """Whether a setting of one of the models acts in this one."""
        group, _, name = key.rpartition(".")
        if group == "ssd":
            return self.model == "ssd" and (self.ssd.neck == "extra_layers" or name not in OF_EXTRA_LAYERS)
        return key != "faster_rcnn.anchor_scales" or self.model == "faster_rcnn"
