"""MobileNet v1 and what belongs to it: names, published weights, cost. Knows no task and no data set."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from backbone.cost import Cost, count_cost
    from backbone.layers import Conventions
    from backbone.mobilenet import Classifier, MobileNet, build_backbone
    from backbone.names import BackboneName, parse_name
    from backbone.weights import load_pretrained

__all__ = [
    "BackboneName",
    "Classifier",
    "Conventions",
    "Cost",
    "MobileNet",
    "build_backbone",
    "count_cost",
    "load_pretrained",
    "parse_name",
]
# Lazy, so that `--help` and a config's checks do not wait for torch.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cost": ["Cost", "count_cost"],
        "layers": ["Conventions"],
        "mobilenet": ["Classifier", "MobileNet", "build_backbone"],
        "names": ["BackboneName", "parse_name"],
        "weights": ["load_pretrained"],
    },
)
