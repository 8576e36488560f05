"""Variants of MobileNet v1's block and ResNet-50: counts by hand, against torchvision, and what must stay as it is."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from backbone.base import Backbone, convolutions
from backbone.build import build_backbone
from backbone.cost import count_cost
from backbone.mobilenet import MobileNet
from backbone.published import find_published
from tests.networks import randomise_bn

ACTIVATIONS = (nn.ReLU6, nn.ReLU, nn.Hardswish)
# Of Table 1: channels into and out of each block.
CHANNELS = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 5]
CHANNELS += [(512, 1024), (1024, 1024)]
STEM = 27 * 32
SIDES = {  # of the map that each block makes at 224 px, where the stem makes one of 112
    "mobilenet_1.0": [112, 56, 56, 28, 28, *[14] * 6, 7, 7],
    "mobilenet_1.0_early": [56, 56, 28, 28, *[14] * 6, 7, 7, 7],
    "mobilenet_1.0_late": [112, 112, 56, 56, 28, 28, *[14] * 6, 7],
}


def cost_of(name: str, size: int = 224) -> tuple[int, int]:
    with torch.device("meta"):
        cost = count_cost(build_backbone(name), torch.zeros(1, 3, size, size, dtype=torch.uint8))
    return cost.mult_adds, cost.num_params


def pixels(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("name", SIDES)
def test_mult_adds_by_hand_where_the_strides_are(name: str) -> None:
    blocks = zip(CHANNELS, SIDES[name], strict=True)
    expected = STEM * 112**2 + sum((9 * inputs + inputs * outputs) * side**2 for (inputs, outputs), side in blocks)
    mult_adds, num_params = cost_of(name)
    assert mult_adds == expected
    assert num_params == cost_of("mobilenet_1.0")[1]


@pytest.mark.parametrize(
    ("suffix", "num_norm_params"), [("_linear", 2), ("_plain", 0), ("_relu", 2), ("_hardswish", 2)]
)
def test_parameters_by_hand_of_what_follows_a_convolution(suffix: str, num_norm_params: int) -> None:
    """A scale and a shift for each channel; the convolutions stay."""
    of_blocks = (9 * inputs + num_norm_params * inputs + (inputs + 2) * outputs for inputs, outputs in CHANNELS)
    mult_adds, num_params = cost_of(f"mobilenet_1.0{suffix}")
    assert num_params == STEM + 2 * 32 + sum(of_blocks)
    assert mult_adds == cost_of("mobilenet_1.0")[0]


def parts(network: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> int:
    return sum(isinstance(part, kind) for part in network.modules())


@pytest.mark.parametrize(
    ("suffix", "num_norms", "num_activations", "activation"),
    [
        ("", 27, 27, nn.ReLU6),
        ("_linear", 27, 14, nn.ReLU6),
        ("_plain", 14, 14, nn.ReLU6),
        ("_relu", 27, 27, nn.ReLU),
        ("_hardswish", 27, 27, nn.Hardswish),
        ("_late_plain_relu", 14, 14, nn.ReLU),
        ("_shallow_linear_hardswish", 17, 9, nn.Hardswish),
        ("_conv_relu", 14, 14, nn.ReLU),
    ],
)
def test_a_name_says_what_follows_the_convolutions(
    suffix: str, num_norms: int, num_activations: int, activation: type[nn.Module]
) -> None:
    network = build_backbone(f"mobilenet_0.25{suffix}")
    assert parts(network, nn.BatchNorm2d) == num_norms
    assert parts(network, activation) == parts(network, ACTIVATIONS) == num_activations
    assert network.conventions.activation is activation, "for the layers that a task adds"


@pytest.mark.parametrize("suffix", ["_early", "_late", "_linear", "_plain", "_relu", "_hardswish"])
def test_variants_have_all_strides_and_learn_in_all_layers(suffix: str) -> None:
    network = build_backbone(f"mobilenet_0.25{suffix}")
    maps = network.features(pixels(75))
    assert [tuple(maps[stride].shape[2:]) for stride in (2, 4, 8, 16, 32)] == [
        (38, 38),
        (19, 19),
        (10, 10),
        (5, 5),
        (3, 3),
    ]
    assert all(maps[stride].shape[1] == channels for stride, channels in network.channels.items())
    maps[32].mean().backward()  # type: ignore[no-untyped-call]
    assert all(
        convolution.weight.grad is not None and convolution.weight.grad.any() for convolution in convolutions(network)
    )


@pytest.mark.parametrize("suffix", ["", "_linear", "_plain"])
def test_a_block_is_its_formula(suffix: str) -> None:
    """pointwise(f(depthwise(x))), where f is what the name says."""
    network = build_backbone(f"mobilenet_0.25{suffix}_relu").eval()
    randomise_bn(network)
    block = network.layers[3]
    x = torch.randn(2, block.depthwise.conv.in_channels, 9, 9)  # type: ignore[union-attr]
    expected = nn.functional.conv2d(x, block.depthwise.conv.weight, padding=1, groups=x.shape[1])  # type: ignore[union-attr, arg-type]
    if suffix != "_plain":
        expected = block.depthwise.bn(expected)  # type: ignore[union-attr, operator]
    if not suffix:
        expected = expected.clamp(min=0)
    expected = nn.functional.conv2d(expected, block.pointwise.conv.weight)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(block(x), block.pointwise.bn(expected).clamp(min=0))  # type: ignore[union-attr, operator]


def test_random_weights_depend_on_the_seed_and_not_on_what_follows_a_convolution() -> None:
    def kernels(name: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        return [convolution.weight for convolution in convolutions(build_backbone(name))]

    plain = kernels("mobilenet_0.25")
    for suffix in ("_early", "_late", "_linear", "_plain", "_relu", "_hardswish"):
        assert all(map(torch.equal, plain, kernels(f"mobilenet_0.25{suffix}")))


@pytest.mark.parametrize("suffix", ["_linear", "_relu", "_late"])
def test_no_weights_are_published_for_variants(suffix: str) -> None:
    with pytest.raises(ValueError, match=f"keras published no weights for mobilenet_0.5{suffix}"):
        find_published("keras", f"mobilenet_0.5{suffix}", 224)


def as_torchvision(network: Backbone) -> nn.Module:
    """torchvision's ResNet-50 with the same weights, which it has in the same order."""
    theirs = resnet50()
    theirs.fc = nn.Identity()  # type: ignore[assignment]
    values = [value for name, value in network.state_dict().items() if not name.startswith("normalize.")]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    return theirs.eval()


def test_resnet50_is_torchvisions() -> None:
    network = build_backbone("resnet50_1.0").eval()
    randomise_bn(network)
    theirs, images = as_torchvision(network), pixels(75)
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(network.normalize(images)))
    assert network.channels == {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}
    maps = build_backbone("resnet50_0.125").features(images)
    assert {stride: tuple(x.shape[1:]) for stride, x in maps.items()} == {
        2: (8, 38, 38), 4: (32, 19, 19), 8: (64, 10, 10), 16: (128, 5, 5), 32: (256, 3, 3)
    }  # fmt: skip


def test_cost_of_a_separable_resnet50_by_hand() -> None:
    """Each of its 3x3 convolutions: 9 c^2 become 9 c + c^2, and 2 c for a batch normalisation."""
    convolutions_3x3 = {64: (3, [56] * 3), 128: (4, [28] * 4), 256: (6, [14] * 6), 512: (3, [7] * 3)}
    mult_adds, num_params = cost_of("resnet50_1.0")
    for channels, (number, sides) in convolutions_3x3.items():
        saved = 8 * channels**2 - 9 * channels
        num_params -= number * (saved - 2 * channels)
        mult_adds -= sum(saved * side**2 for side in sides)
    assert cost_of("resnet50_1.0_separable") == (mult_adds, num_params)


def test_resnet50_cannot_be_dilated() -> None:
    with pytest.raises(ValueError, match="ResNet-50 cannot be dilated"):
        build_backbone("resnet50_0.125").set_output_stride(16)


def test_the_default_network_is_the_one_of_table_1() -> None:
    """The same layers with the same random weights as written out here."""
    torch.manual_seed(0)
    network = MobileNet(0.25)
    torch.manual_seed(0)
    expected = [nn.Conv2d(3, 8, 3, bias=False)]
    for inputs, outputs in CHANNELS:
        expected.append(nn.Conv2d(inputs // 4, inputs // 4, 3, groups=inputs // 4, bias=False))
        expected.append(nn.Conv2d(inputs // 4, outputs // 4, 1, bias=False))
    for convolution in expected:
        convolution.to(memory_format=torch.channels_last)  # random numbers are drawn in the order of memory
        fan_out = convolution.weight[0, 0].numel() * convolution.out_channels // convolution.groups
        nn.init.normal_(convolution.weight, 0.0, (2 / fan_out) ** 0.5)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(convolutions(network), expected, strict=True))
    kinds = [type(part) for part in network.layers.modules() if not list(part.children())]
    assert [kind.__name__ for kind in kinds] == ["SameConv2d", "BatchNorm2d", "ReLU6"] * 27
