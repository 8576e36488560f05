"""The base class of all backbones: feature maps by stride, trunk and tail, pooled features, a classifier."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from itertools import accumulate, islice, pairwise

import torch
from torch import Tensor, nn

from backbone.layers import Conventions, Normalize


class Backbone(nn.Module):
    """A sequence of layers without a classifier.

    Attributes:
        width_mult: width multiplier.
        conventions: of the weights (padding, BN epsilon, ...); use them for added layers, too.
        layers: from normalised pixels to the last feature map.
        channels: stride -> channels of its feature map; for a MobileNet, strides 2, 4, 8, 16, 32.
        num_features: channels of the last feature map.
    """

    def __init__(self, layers: Iterable[nn.Module], *, width_mult: float, conventions: Conventions) -> None:
        """Args: layers: each contains at least one convolution; its last convolution sets the output channels."""
        super().__init__()
        self.width_mult = width_mult
        self.conventions = conventions
        self.normalize = Normalize(conventions)
        self.layers = nn.Sequential(*layers)
        self._find_maps()
        self.num_features = self.channels[max(self.channels)]
        self.to(memory_format=torch.channels_last)  # the fastest layout for convolutions

    def _find_maps(self) -> None:
        self.channels: dict[int, int] = {}
        self._last_layer: dict[int, int] = {}
        self._map_layer: dict[int, int] = {}  # whose output is the feature map at that stride
        self._expansions: dict[int, int] = {}  # block whose expansion is the feature map -> its stride
        strides = list(accumulate(map(self.layer_stride, self.layers), operator.mul))
        for index, (stride, layer) in enumerate(zip(strides, self.layers, strict=True)):
            self._last_layer[stride] = index
            if self.conventions.maps_first_layers and stride in self._map_layer and stride < strides[-1]:
                continue
            self._map_layer[stride] = index
            self.channels[stride] = convolutions(layer)[-1].out_channels

    def layer_stride(self, layer: nn.Module) -> int:
        """The factor by which a layer makes feature maps smaller: the product of its convolutions' strides."""
        return math.prod(convolution.stride[0] for convolution in convolutions(layer))

    def set_output_stride(self, output_stride: int) -> None:
        """Replace strides by dilation, so that the coarsest feature map is at that stride; the weights stay the same.

        A strided convolution beyond it gets stride 1, and those after it are dilated by 2. So the values equal those of
        the strided network at the positions that it computes, except that a squeeze-and-excitation takes its means over
        more positions. The padding of stride 1 is the same on all sides, with TensorFlow's conventions, too.

        Raises:
            ValueError: if this network has no feature map at that stride.

        Source: Chen et al. 2016 (arXiv:1606.00915), section 3.1.
        """
        self._num_trunk_layers(output_stride)
        stride, removed = 1, 1
        for convolution in convolutions(self.layers):
            factor = removed
            if stride < output_stride:
                stride *= convolution.stride[0]
            else:
                removed *= convolution.stride[0]
                convolution.stride = (1, 1)
            if self.conventions.dilates_strided:
                factor = removed
            kernel = convolution.kernel_size[0]
            if kernel > 1:
                dilation = factor * convolution.dilation[0]
                convolution.dilation = (dilation, dilation)
                convolution.padding = (dilation * (kernel // 2),) * 2
        self._find_maps()

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """The feature map at each stride: that of its last layer, unless the conventions or `tap_expansion` differ.

        Args:
            images: uint8 RGB (N, 3, H, W).

        Returns:
            stride -> (N, channels[stride], ceil(H / stride), ceil(W / stride)).
        """
        x = self.normalize(images)
        feature_maps = {}
        stride_of_layer = {index: stride for stride, index in self._map_layer.items()}
        for index, layer in enumerate(self.layers):
            if index in self._expansions:
                expansion, *rest = self.block_parts(layer)
                feature_maps[self._expansions[index]] = x = expansion(x)
                for part in rest:
                    x = part(x)
            else:
                x = layer(x)
            if index in stride_of_layer:
                feature_maps[stride_of_layer[index]] = x
        return feature_maps

    def block_parts(self, block: nn.Module) -> list[nn.Module]:
        """The modules of an inverted residual block in order, the expansion first.

        Raises:
            ValueError: if this network has no such blocks.
        """
        raise ValueError("no expansion: this network has no inverted residual blocks")

    def tap_expansion(self, stride: int) -> None:
        """Make the feature map at that stride the expansion in the next block, in place of the last layer's output.

        It is the last one of that size, and has six times the channels: SSD's finest feature map on MobileNet v2 and
        v3 (Sandler et al. 2018, section 6.2).

        Raises:
            ValueError: if this network has no inverted residual blocks.
        """
        index = self._num_trunk_layers(stride)
        expansion, *_ = self.block_parts(self.layers[index])
        self.channels[stride] = convolutions(expansion)[-1].out_channels
        self._expansions = {index: stride}

    def trunk(self, images: Tensor, stride: int) -> Tensor:
        """The layers up to a stride: uint8 RGB (N, 3, H, W) -> the last feature map at `stride`."""
        x: Tensor = self.normalize(images)
        for layer in islice(self.layers, self._num_trunk_layers(stride)):
            x = layer(x)
        return x

    def tail(self, features: Tensor, stride: int) -> Tensor:
        """The layers after `trunk`: its output, or a crop of it -> the last feature map."""
        for layer in islice(self.layers, self._num_trunk_layers(stride), None):
            features = layer(features)
        return features

    def _num_trunk_layers(self, stride: int) -> int:
        if stride not in self._last_layer:
            raise ValueError(f"no feature map at stride {stride}; there are {sorted(self._last_layer)}")
        return self._last_layer[stride] + 1

    def stages(self) -> list[nn.Sequential]:
        """The layers in groups of equal stride, from the input on; they share this network's weights."""
        ends = [index + 1 for index in self._last_layer.values()]
        return [self.layers[start:end] for start, end in pairwise([0, *ends])]

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W) -> globally average-pooled features (N, num_features)."""
        features: Tensor = self.layers(self.normalize(images)).mean((2, 3))
        return features

    def build_head(self, num_outputs: int) -> nn.Module:
        """A new head on pooled features: (N, num_features) -> (N, num_outputs); here a linear layer, as in Table 1."""
        return nn.Linear(self.num_features, num_outputs)


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """The convolutions in a module, in the order in which they were registered."""
    return [child for child in module.modules() if isinstance(child, nn.Conv2d)]


def global_average_pool(maps: Mapping[int, Tensor]) -> Tensor:
    """The last of a backbone's feature maps by stride, globally average-pooled: (N, num_features)."""
    return maps[max(maps)].mean((2, 3))


class Classifier(nn.Module):
    """A backbone with its classification head."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        """Args: backbone: the feature extractor; num_classes: number of outputs."""
        super().__init__()
        self.backbone = backbone
        self.head = backbone.build_head(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, H, W) -> logits (N, num_classes)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits
