"""Prediction in windows: of a network that sees each place alone, the same as of the whole."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks.segmentation.model import SegmentationModel, SegmentationOutputs
from tasks.segmentation.windows import WindowedModel


class Places(nn.Module):
    """A head whose logits are those of the place alone: the mean of 8 x 8 pixels, and its square."""

    def forward(self, images: Tensor) -> Tensor:
        mean = nn.functional.avg_pool2d(images.float(), 8).mean(1, keepdim=True)
        return torch.cat([mean, mean**2], 1)


class Pixels(nn.Module):
    @staticmethod
    def features(images: Tensor) -> Tensor:
        return images


def network(window: int) -> WindowedModel:
    return WindowedModel(SegmentationModel(Pixels(), Places(), None), window).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 160), (224, 96), (32, 64), (128, 32)])
def test_windows_are_put_together_where_they_are_from(size_hw: tuple[int, int], rng: np.random.Generator) -> None:
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, *size_hw), np.uint8))
    outputs = network(64)(images)
    assert isinstance(outputs, SegmentationOutputs)
    torch.testing.assert_close(outputs.logits, Places()(images), rtol=1e-6, atol=1e-3)


def test_windows_overlap_by_half_or_more() -> None:
    for window, side in ((64, 96), (64, 1024), (192, 224), (192, 352), (512, 1024)):
        starts = np.array(network(window)._starts(side))
        assert (starts[0], starts[-1]) == (0, side - window)
        assert 0 < np.diff(starts).min() <= np.diff(starts).max() <= window // 2
        assert (starts % 32 == 0).all()
