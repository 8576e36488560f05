"""Mult-adds and parameters of the paper's rows, counted from real networks: ours and torchvision's.

The paper leaves batch normalisation out of its classifiers' parameters (Tables 2 to 9), and so do we there; in the
other tables all parameters count.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torchvision.models
from torch import nn

from backbone.base import Classifier
from backbone.build import build_backbone
from backbone.cost import Cost, count_cost
from backbone.layers import KERAS, ConvBNReLU, DepthwiseSeparable
from backbone.names import parse_name
from results.paper import DOGS_TABLE, NETWORKS
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.common.config import BackboneConfig
from tasks.detection.config import DetectionConfig, DetectionDataConfig
from tasks.detection.task import DetectionTask
from tasks.embedding.config import EmbeddingConfig
from tasks.embedding.task import EmbeddingTask
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.task import GeolocationTask

IMAGENET_CLASSES, DOGS_CLASSES = 1000, 120
# Row -> torchvision's name, input size.
POPULAR = {
    "vgg16": ("vgg16", 224),
    "googlenet": ("googlenet", 224),
    "squeezenet": ("squeezenet1_0", 224),
    "alexnet": ("alexnet", 224),
    "inception_v3": ("inception_v3", 299),
}
TABLE_3_LAYERS: dict[str, tuple[int, int]] = {  # channels, side of the feature map
    "convolution": (512, 14),
    "depthwise separable": (512, 14),
    "alpha=0.75": (384, 14),
    "rho=0.714": (384, 10),
}
TASK_OF_TABLE: dict[str, tuple[Any, Any]] = {
    "11": (GeolocationTask, GeolocationConfig),
    "12": (AttributesTask, AttributesConfig),
    "14": (EmbeddingTask, EmbeddingConfig),
}


def count(table: str, row: str, quantity: str) -> float | None:
    """Our count for a quantity of the paper, in the paper's unit: millions or percent.

    Returns:
        None where we have no such network, or the quantity is not a count.
    """
    if quantity not in ("mult_adds", "params", "mult_adds_fraction", "params_fraction"):
        return None
    if table == "2":
        return _fraction(row, quantity)
    cost = _cost(table, row)
    if cost is None:
        return None
    if quantity == "mult_adds":
        return cost.mult_adds / 1e6
    return (_params_without_bn(cost) if int(table) < 10 else cost.num_params) / 1e6


def _fraction(layer_type: str, quantity: str) -> float:
    cost = _classifier("mobilenet_1.0_224", 224, IMAGENET_CLASSES)
    mult_adds, num_params = cost.by_layer_type[layer_type]
    bias = IMAGENET_CLASSES  # the classifier's, which the paper does not count
    if quantity == "mult_adds_fraction":
        return 100 * mult_adds / cost.mult_adds
    return 100 * (num_params - bias * (layer_type == "fully connected")) / (_params_without_bn(cost) - bias)


def _params_without_bn(cost: Cost) -> int:
    return cost.num_params - cost.by_layer_type.get("batch norm", (0, 0))[1]


def _cost(table: str, row: str) -> Cost | None:
    if table == "3":
        return _layer(*TABLE_3_LAYERS[row], full=row == "convolution")
    if row in POPULAR:
        return _popular(*POPULAR[row])
    if table == "13":
        model, network = row.split(" ")
        return _detector(*model.rsplit("_", 1)) if network == "mobilenet" else None
    name = NETWORKS.get(row, row)
    if not name.startswith("mobilenet"):
        return None
    size = parse_name(name).input_size
    assert size is not None
    if table in TASK_OF_TABLE:
        return _of_task(table, name, size)
    return _classifier(name, size, DOGS_CLASSES if table == DOGS_TABLE else IMAGENET_CLASSES)


@functools.cache
def _classifier(name: str, size: int, num_classes: int) -> Cost:
    with torch.device("meta"):
        return count_cost(Classifier(build_backbone(name), num_classes), _image(size))


@functools.cache
def _popular(name: str, size: int) -> Cost:
    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        return count_cost(torchvision.models.get_model(name, weights=None, **extra), _image(size).float())


@functools.cache
def _layer(channels: int, side: int, *, full: bool) -> Cost:
    layer: nn.Module = (
        ConvBNReLU(channels, channels, 3, KERAS) if full else DepthwiseSeparable(channels, channels, KERAS)
    )
    return count_cost(layer, torch.zeros(1, channels, side, side))


@functools.cache
def _detector(model: str, size: str) -> Cost:
    """Not on the meta device: which regions a detector classifies depends on its outputs."""
    data = DetectionDataConfig(input_size=int(size))
    config = DetectionConfig(model=model, data=data)  # type: ignore[arg-type]  # ssd or faster_rcnn, by the paper's rows
    return count_cost(DetectionTask.with_num_classes(config, None).build_model(), _image(int(size)))


@functools.cache
def _of_task(table: str, name: str, size: int) -> Cost:
    task_class, config_class = TASK_OF_TABLE[table]
    config = config_class(backbone=BackboneConfig(name=name.removesuffix(f"_{size}")))
    return count_cost(task_class.with_num_classes(config, None).build_model(), _image(size))


def _image(size: int) -> torch.Tensor:
    return torch.zeros(1, 3, size, size, dtype=torch.uint8)
