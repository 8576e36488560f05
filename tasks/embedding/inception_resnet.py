"""FaceNet's network: Inception-ResNet-v1 with 512-dimensional embeddings.

Defined here because the package with the weights (facenet-pytorch) pins versions of torch that are years old. Modules
have its names, so its weight files load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING_DIM = 512
MIN_INPUT_SIZE = 75  # smaller inputs leave no pixel for the last unpadded convolution
BN_EPS = 1e-3
DROPOUT = 0.6
PIXEL_MEAN, PIXEL_STD = 127.5, 128.0


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Branches(nn.Module):
    """Parallel branches, concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self._num_branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the channels of all branches, (N, C', H', W')."""
        return torch.cat([self.get_submodule(f"branch{index}")(x) for index in range(self._num_branches)], 1)


class Residual(Branches):
    """x + scale * (a 1x1 convolution of all branches), then a ReLU, except in the last block.

    Source: Szegedy et al. 2017 (arXiv:1602.07261), section 3.3, for the scale.
    """

    def __init__(
        self, *branches: nn.Module, mixed_channels: int, channels: int, scale: float, relu: bool = True
    ) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(mixed_channels, channels, 1)
        self._scale, self._relu = scale, relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        out = x + self._scale * self.conv2d(super().forward(x))
        return functional.relu(out, inplace=True) if self._relu else out


class InceptionResnetV1(nn.Module):
    """The FaceNet of facenet-pytorch: 23,482,624 parameters, 27,910,327 with VGGFace2's classifier of 8,631 identities.

    Attributes:
        num_features: dimension of the embeddings.

    Source: Szegedy et al. 2017 (arXiv:1602.07261), Figures 10 to 15; Schroff et al. 2015 (arXiv:1503.03832).
    """

    num_features = EMBEDDING_DIM

    def __init__(self, num_classes: int = 0) -> None:
        """Args: num_classes: identities of the classifier on top, which embeddings do not need; 0 for no classifier."""
        super().__init__()
        self.conv2d_1a = BasicConv2d(3, 32, 3, stride=2)
        self.conv2d_2a = BasicConv2d(32, 32, 3)
        self.conv2d_2b = BasicConv2d(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = BasicConv2d(64, 80, 1)
        self.conv2d_4a = BasicConv2d(80, 192, 3)
        self.conv2d_4b = BasicConv2d(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Branches(
            BasicConv2d(256, 384, 3, stride=2),
            nn.Sequential(
                BasicConv2d(256, 192, 1), BasicConv2d(192, 192, 3, padding=1), BasicConv2d(192, 256, 3, stride=2)
            ),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Branches(
            nn.Sequential(BasicConv2d(896, 256, 1), BasicConv2d(256, 384, 3, stride=2)),
            nn.Sequential(BasicConv2d(896, 256, 1), BasicConv2d(256, 256, 3, stride=2)),
            nn.Sequential(
                BasicConv2d(896, 256, 1), BasicConv2d(256, 256, 3, padding=1), BasicConv2d(256, 256, 3, stride=2)
            ),
            nn.MaxPool2d(3, 2),
        )
        self.repeat_3 = nn.Sequential(*(_block8(scale=0.2) for _ in range(5)))
        self.block8 = _block8(scale=1.0, relu=False)
        self.dropout = nn.Dropout(DROPOUT)
        self.last_linear = nn.Linear(1792, EMBEDDING_DIM, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDING_DIM, eps=BN_EPS)
        if num_classes:
            self.logits = nn.Linear(EMBEDDING_DIM, num_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, 3, S, S), S of 75 or more, 160 in training -> embeddings (N, 512) of length 1."""
        x = (images.to(self.last_linear.weight.dtype, memory_format=torch.channels_last) - PIXEL_MEAN) / PIXEL_STD
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        pooled = self.dropout(x.mean((2, 3)))
        return functional.normalize(self.last_bn(self.last_linear(pooled)))


def _block35() -> Residual:
    return Residual(
        BasicConv2d(256, 32, 1),
        nn.Sequential(BasicConv2d(256, 32, 1), BasicConv2d(32, 32, 3, padding=1)),
        nn.Sequential(BasicConv2d(256, 32, 1), BasicConv2d(32, 32, 3, padding=1), BasicConv2d(32, 32, 3, padding=1)),
        mixed_channels=96,
        channels=256,
        scale=0.17,
    )


def _block17() -> Residual:
    branches = (BasicConv2d(896, 128, 1), _factorised(896, 128, 7))
    return Residual(*branches, mixed_channels=256, channels=896, scale=0.1)


def _block8(*, scale: float, relu: bool = True) -> Residual:
    branches = (BasicConv2d(1792, 192, 1), _factorised(1792, 192, 3))
    return Residual(*branches, mixed_channels=384, channels=1792, scale=scale, relu=relu)


def _factorised(in_channels: int, channels: int, size: int) -> nn.Sequential:
    """A 1x1 convolution, then one of 1 x size and one of size x 1."""
    return nn.Sequential(
        BasicConv2d(in_channels, channels, 1),
        BasicConv2d(channels, channels, (1, size), padding=(0, size // 2)),
        BasicConv2d(channels, channels, (size, 1), padding=(size // 2, 0)),
    )
