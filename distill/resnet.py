"""A large attribute network as a teacher: ResNet-50, trained like any attributes task."""

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
        num_features: of its last map.
    """

    num_features = 2048

    def __init__(self, *, pretrained: bool) -> None:
        """Args: pretrained: start from ImageNet's weights, where they are kept or can be downloaded."""
        super().__init__()
        self.normalize = Normalize(TORCHVISION_V2)
        try:
            self.network = torchvision.models.resnet50(weights="DEFAULT" if pretrained else None)
        except OSError as error:
            warnings.warn(f"ResNet-50 starts from random weights: ImageNet's cannot be had ({error})", stacklevel=2)
            self.network = torchvision.models.resnet50()
        self.network.fc = nn.Identity()
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, S, S) -> pooled features (N, num_features)."""
        features: Tensor = self.network(self.normalize(images))
        return features

    def build_head(self, num_outputs: int) -> nn.Module:
        """A classifier of pooled features."""
        return nn.Linear(self.num_features, num_outputs)


class ResNetTask(AttributesTask):
    """Attributes by ResNet-50."""

    def build_model(self) -> LogitsModel:  # type: ignore[override]
        """The network; from random weights for the sample, whose drawings are no photos."""
        body = ResNet50(pretrained=self.config.data.root is not None)
        return LogitsModel(body, len(self.attribute_names))  # type: ignore[arg-type]
