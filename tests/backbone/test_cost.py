"""Mult-adds and parameters against manual counts and a second counter; the paper's numbers are in tests/results."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from backbone.cost import count_cost
from backbone.layers import KERAS, DepthwiseSeparable
from backbone.mobilenet import MobileNet


def test_a_convolution_counts_kernel_times_outputs() -> None:
    # 3x3 kernel, 4 -> 6 channels in 2 groups, 5x5 outputs: 9 * (4 / 2) * 6 * 25; bias adds parameters alone
    cost = count_cost(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2)), torch.zeros(1, 4, 5, 5))
    assert cost.mult_adds == 9 * 2 * 6 * 25
    assert cost.num_params == 9 * 2 * 6 + 6


def test_table_3_separable_layer() -> None:
    """One 14x14x512 -> 512 layer: 9 * 512 * 14^2 + 512 * 512 * 14^2 (equation 5)."""
    cost = count_cost(DepthwiseSeparable(512, 512, KERAS), torch.zeros(1, 512, 14, 14))
    assert cost.mult_adds == 9 * 512 * 196 + 512 * 512 * 196
    assert cost.by_layer_type["conv dw 3x3"] == (9 * 512 * 196, 9 * 512)


def test_mult_adds_of_mobilenet_at_513_px_and_output_stride_16() -> None:
    """By hand, for maps of 257, 129, 65 and 33 pixels; the last two blocks stay at 33 instead of 17."""
    blocks = [(32, 64, 257), (64, 128, 129), (128, 128, 129), (128, 256, 65), (256, 256, 65)]
    blocks += [(256, 512, 33), *[(512, 512, 33)] * 5, (512, 1024, 33), (1024, 1024, 33)]
    expected = 27 * 32 * 257**2 + sum((9 * inputs + inputs * outputs) * side**2 for inputs, outputs, side in blocks)
    network = MobileNet(1.0)
    with torch.device("meta"):
        images = torch.zeros(1, 3, 513, 513, dtype=torch.uint8)
    num_params = sum(parameter.numel() for parameter in network.parameters())
    network.to("meta").set_output_stride(16)
    cost = count_cost(network, images)
    assert (cost.mult_adds, cost.num_params) == (expected, num_params)


def test_counts_every_layer_once_and_keeps_the_training_mode() -> None:
    network = MobileNet(0.25)
    cost = count_cost(network, torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert sum(mult_adds for mult_adds, _ in cost.by_layer_type.values()) == cost.mult_adds
    assert sum(num_params for _, num_params in cost.by_layer_type.values()) == cost.num_params
    assert network.training


def test_works_on_other_networks() -> None:
    """AlexNet, against the metadata of torchvision's weights."""
    from torchvision.models import AlexNet_Weights, alexnet

    with torch.device("meta"):
        cost = count_cost(alexnet(), torch.zeros(1, 3, 224, 224))
    expected = AlexNet_Weights.IMAGENET1K_V1.meta
    assert cost.num_params == expected["num_params"]
    assert cost.mult_adds / 1e9 == pytest.approx(expected["_ops"], abs=0.001)


def test_command_prints_integers() -> None:
    words = [sys.executable, "-m", "backbone", "cost", "mobilenet_0.5_160", "--json"]
    printed = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert (printed["mult_adds"], printed["num_params"]) == (76_524_800, 1_331_592)


def test_an_invalid_name_is_an_error_with_an_example() -> None:
    words = [sys.executable, "-m", "backbone", "cost", "mobilenet_big"]
    failed = subprocess.run(words, capture_output=True, check=False, text=True)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "mobilenet_0.5_160" in failed.stderr
