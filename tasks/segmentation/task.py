"""The segmentation task: its networks and loss; data, metric and pictures are in `inference.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor, nn

from backbone.weights import Weights
from datasets.loader import Collate
from datasets.resizing import resize
from datasets.segmentation.augmentation import MaskAugmentation
from datasets.sources import Preprocess
from datasets.types import Example, Mask
from tasks.common.deploy.postprocessing import parse_graph
from tasks.common.runs.pretrained import build_pretrained, open_pretrained
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.task import Task
from tasks.common.weights import TaskWeights, is_model_of
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.inference import SegmentationInference, mask_of_logits, open_data
from tasks.segmentation.loss import SegmentationTargets, class_weights, segmentation_loss, segmentation_targets
from tasks.segmentation.model import AuxiliaryOutputs, SegmentationModel, SegmentationOutputs, build_model
from tasks.segmentation.torchvision import read_torchvision
from tasks.segmentation.transfer import load_heads
from tasks.segmentation.windows import WindowedModel

if TYPE_CHECKING:
    from onnx import GraphProto


VOC_NUM_CLASSES = 21  # of the papers' results, with background


class SegmentationTask(SegmentationInference, Task[Mask]):
    """A dilated backbone and a head for the classes of pixels."""

    def __init__(self, config: SegmentationConfig, metadata: Mapping[str, Any]) -> None:
        """Args: config: settings; metadata: see `SegmentationInference`."""
        super().__init__(config, metadata)
        num_pixels = metadata.get("num_pixels")
        self._class_weights = None if num_pixels is None else class_weights(num_pixels, config.class_weight_exponent)

    @classmethod
    def from_data(cls, config: SegmentationConfig) -> Self:
        """The task for the classes of the training masks, which are read where the loss has class weights."""
        data = open_data(config)
        train = data["train"]
        metadata: dict[str, Any] = {"class_names": list(train.class_names)}
        if config.class_weight_exponent:
            metadata["num_pixels"] = train.pixel_counts.sum(0, np.int64).tolist()
        task = cls(config, metadata)
        task._data = data
        return task

    @classmethod
    def read_published(cls, path: Path) -> TaskWeights | None:
        """The networks of torchvision, see `torchvision.py`."""
        return read_torchvision(path) if path.suffix == ".pth" else None

    @classmethod
    def with_num_classes(cls, config: SegmentationConfig, num_classes: int | None) -> Self:
        """The task with numbered classes; by default the 21 of Pascal VOC."""
        return cls(config, {"class_names": list(map(str, range(num_classes or VOC_NUM_CLASSES)))})

    def build_model(self) -> SegmentationModel:
        """The network with the configured weights: a backbone's, or those of a model of this task where they fit."""
        weights = open_pretrained(self.config, self.name)
        network = self._build(weights)
        if is_model_of(weights, self.name):
            load_heads(network, weights, self.class_names)
        return network

    def kept(self, weights: Weights) -> dict[str, int]:
        """The backbone, and the heads with the classes that they know."""
        kept = super().kept(weights)
        if not is_model_of(weights, self.name):
            return kept
        return kept | load_heads(self._build(weights), weights, self.class_names)

    def _build(self, weights: Weights | None) -> SegmentationModel:
        config = self.config
        network = build_model(
            build_pretrained(config, weights),
            len(self.class_names),
            head=config.head,
            output_stride=config.output_stride,
            has_auxiliary_head=config.auxiliary_weight > 0,
        )
        return network if config.window is None else WindowedModel(network, config.window)

    def augmentation(self) -> MaskAugmentation:
        """A random scale and part, a flip and colour jitter."""
        augment = self.config.augment
        return MaskAugmentation(
            self.config.data.input_size,
            min_scale=augment.min_scale,
            max_scale=augment.max_scale,
            jitter_strength=augment.jitter_strength,
        )

    def preprocessing(self) -> Preprocess:
        """The same as for an exported network, faster."""
        return partial(resize, input_size=self.config.data.input_size)

    def collate(self) -> Collate[Mask]:
        """Class ids."""
        return _targets

    def loss(
        self,
        outputs: SegmentationOutputs | AuxiliaryOutputs,
        targets: SegmentationTargets,
        world: World = SINGLE_PROCESS,
    ) -> dict[str, Tensor]:
        """Cross-entropy of the pixels."""
        weights = self._class_weights
        return segmentation_loss(
            outputs,
            targets,
            world,
            class_weights=None if weights is None else weights.to(outputs.logits.device),
            auxiliary_weight=self.config.auxiliary_weight,
        )

    def decode(self, outputs: SegmentationOutputs) -> list[Mask]:
        """The logits of each image, which give its classes at any size."""
        return [mask_of_logits(logits) for logits in outputs.logits.cpu().numpy()]

    def postprocessing(self, network: nn.Module) -> GraphProto:
        """The class of each pixel of the network's input, and the logits, which give those of a photo."""
        size = self.config.data.input_size
        text = """
        segmentation (float[N, K, H, W] logits) => (uint8[N, S, S] class_ids, float[N, K, H, W] class_logits) {
            class_logits = Identity (logits)
            resized = Resize <mode = "linear", axes = [2, 3]> (logits, "", "", size)
            highest = ArgMax <axis = 1, keepdims = 0> (resized)
            class_ids = Cast <to = 2> (highest)
        }"""
        return parse_graph(text, size=np.array([size, size]))


def _targets(examples: Sequence[Example[Mask]]) -> SegmentationTargets:
    return segmentation_targets([example.truth.class_ids for example in examples])
