"""ResNet-50 as a teacher for attributes, trained like any attributes model."""

from __future__ import annotations

import warnings

import torch
import torchvision.models
from torch import Tensor, nn

from backbone.layers import TORCHVISION_V2, Normalize
from tasks.attributes.task import AttributesTask
from tasks.common.model.logits import LogitsModel


class ResNet50(nn.Module):
    """Torchvision's ResNet-50 without its classifier.

    Attributes:
        num_features: channels of the last feature map.
    """

    num_features = 2048

    def __init__(self, *, pretrained: bool) -> None:
        """Args: pretrained: start from ImageNet weights, if they are cached or can be downloaded."""
        super().__init__()
        self.normalize = Normalize(TORCHVISION_V2)
        try:
            self.network = torchvision.models.resnet50(weights="DEFAULT" if pretrained else None)
        except OSError as error:
            warnings.warn(f"ResNet-50 starts from random weights: cannot load ImageNet weights ({error})", stacklevel=2)
            self.network = torchvision.models.resnet50()
        self.network.fc = nn.Identity()
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, S, S) -> pooled features (N, num_features)."""
        features: Tensor = self.network(self.normalize(images))
        return features

    def build_head(self, num_outputs: int) -> nn.Module:
        """A linear classifier of the pooled features."""
        return nn.Linear(self.num_features, num_outputs)


class ResNetTask(AttributesTask):
    """Attributes by ResNet-50."""

    def build_model(self) -> LogitsModel:  # type: ignore[override]
        """The network; from random weights for the generated sample, whose pictures are not photos."""
        body = ResNet50(pretrained=self.config.data.root is not None)
        return LogitsModel(body, len(self.attribute_names))  # type: ignore[arg-type]
