"""MobileNet v2 and v3 from torchvision, with the interface of `base.py`."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

from backbone.base import Backbone
from backbone.layers import TORCHVISION_V2, TORCHVISION_V3

DROPOUT_RATE = 0.2


class MobileNetV2(Backbone):
    """MobileNet v2 without a classifier. Source: Sandler et al. 2018 (arXiv:1801.04381), Table 2."""

    def __init__(self, width_mult: float = 1.0) -> None:
        """Args: width_mult: width multiplier; channels are rounded to multiples of 8."""
        layers = mobilenet_v2(width_mult=width_mult).features
        super().__init__(layers, width_mult=width_mult, conventions=TORCHVISION_V2)

    def build_head(self, num_outputs: int) -> nn.Module:
        """Dropout and one linear layer."""
        return nn.Sequential(nn.Dropout(DROPOUT_RATE), nn.Linear(self.num_features, num_outputs))


class MobileNetV3(Backbone):
    """MobileNet v3 without a classifier. Source: Howard et al. 2019 (arXiv:1905.02244), Tables 1 and 2."""

    def __init__(self, family: Literal["v3_large", "v3_small"], width_mult: float = 1.0) -> None:
        """Args: family: `v3_large` or `v3_small`; width_mult: as for v2."""
        build = mobilenet_v3_large if family == "v3_large" else mobilenet_v3_small
        network = build(width_mult=width_mult)
        super().__init__(network.features, width_mult=width_mult, conventions=TORCHVISION_V3)
        self._num_hidden: int = network.classifier[0].out_features

    def build_head(self, num_outputs: int) -> nn.Module:
        """Two linear layers; the paper counts the first among the feature layers, after the pooling."""
        return nn.Sequential(
            nn.Linear(self.num_features, self._num_hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(DROPOUT_RATE),
            nn.Linear(self._num_hidden, num_outputs),
        )
