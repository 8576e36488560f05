"""MobileNets and what belongs to them: names, published weights, cost. Knows no task and no data set."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from backbone.base import Backbone, Classifier
    from backbone.build import build_backbone
    from backbone.cost import Cost, count_cost
    from backbone.layers import Conventions
    from backbone.mobilenet import MobileNet
    from backbone.names import BackboneName, parse_name
    from backbone.weights import Weights, load_classes, load_weights, open_weights

__all__ = [
    "Backbone",
    "BackboneName",
    "Classifier",
    "Conventions",
    "Cost",
    "MobileNet",
    "Weights",
    "build_backbone",
    "count_cost",
    "load_classes",
    "load_weights",
    "open_weights",
    "parse_name",
]
# Lazy, so that `--help` and a config's checks do not wait for torch.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Backbone", "Classifier"],
        "build": ["build_backbone"],
        "cost": ["Cost", "count_cost"],
        "layers": ["Conventions"],
        "mobilenet": ["MobileNet"],
        "names": ["BackboneName", "parse_name"],
        "weights": ["Weights", "load_classes", "load_weights", "open_weights"],
    },
)
