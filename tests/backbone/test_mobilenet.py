from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

from backbone.base import Classifier
from backbone.build import build_backbone
from backbone.layers import KERAS, Conventions, SameConv2d
from backbone.mobilenet import MobileNet


def images(size: int, num_images: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8)


NAMES = [
    *("mobilenet_0.25", "mobilenet_0.25_conv", "mobilenet_0.25_shallow", "mobilenet_0.25_head"),
    *("mobilenet_v2_0.5", "mobilenet_v3_large_0.5", "mobilenet_v3_small_0.5"),
]


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_size_and_channels_of_their_stride(name: str) -> None:
    size = 75  # odd at several strides
    network = build_backbone(name).eval()
    maps = network.features(images(size))
    assert sorted(maps) == [2, 4, 8, 16, 32]
    for stride, feature_map in maps.items():
        side = -(-size // stride)
        assert feature_map.shape == (2, network.channels[stride], side, side)


def test_width_mult_scales_channels() -> None:
    full = MobileNet(1.0).channels
    assert full == {2: 64, 4: 128, 8: 256, 16: 512, 32: 1024}
    assert MobileNet(0.3).channels == {stride: int(0.3 * channels) for stride, channels in full.items()}


@pytest.mark.parametrize("name", NAMES)
def test_trunk_and_tail_and_stages_give_the_same_feature_map(name: str) -> None:
    network = build_backbone(name).eval()
    x = images(64)
    maps = network.features(x)
    for stride in maps:
        torch.testing.assert_close(network.trunk(x, stride), maps[stride])
        torch.testing.assert_close(network.tail(maps[stride], stride), maps[32])
    in_stages = network.normalize(x)
    for stage, stride in zip(network.stages(), maps, strict=True):
        in_stages = stage(in_stages)
        torch.testing.assert_close(in_stages, maps[stride])


def test_the_tail_starts_with_the_twelfth_convolution() -> None:
    network = MobileNet(0.25).eval()
    maps = network.features(images(64))
    torch.testing.assert_close(network.layers[12:](maps[16]), network.tail(maps[16], 16))
    assert network.layers[12].depthwise.conv.stride == (2, 2)


def test_trunk_and_tail_at_a_missing_stride_are_refused() -> None:
    network = MobileNet(0.25)
    for part in (network.trunk, network.tail):
        with pytest.raises(ValueError, match="stride 64"):
            part(images(64), 64)


def test_pooled_features_are_the_mean_of_the_last_feature_map() -> None:
    network = MobileNet(0.25).eval()
    x = images(64)
    torch.testing.assert_close(network(x), network.features(x)[32].mean((2, 3)))


def test_classifier_has_one_output_per_class() -> None:
    assert Classifier(build_backbone("mobilenet_0.25"), 7)(images(32)).shape == (2, 7)


def test_network_normalises_its_input() -> None:
    """Plain pixels into the network equal x / 127.5 - 1 into its layers."""
    network = MobileNet(0.25).eval()
    x = images(32)
    torch.testing.assert_close(network(x), network.layers(x.float() / 127.5 - 1).mean((2, 3)))


@pytest.mark.parametrize(("size", "before", "after"), [(8, 0, 1), (7, 1, 1)])
def test_tf_same_pads_bottom_and_right_first(size: int, before: int, after: int) -> None:
    convolution = SameConv2d(1, 1, 3, stride=2)
    x = torch.randn(1, 1, size, size)
    padded = functional.pad(x, (before, after, before, after))
    torch.testing.assert_close(convolution(x), functional.conv2d(padded, convolution.weight, stride=2))


def test_symmetric_padding_is_torchs_own() -> None:
    convolution = SameConv2d(1, 1, 3, stride=2, padding="symmetric")
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(convolution(x), functional.conv2d(x, convolution.weight, stride=2, padding=1))


def test_activation_and_epsilon_are_those_of_the_conventions() -> None:
    network = MobileNet(0.25, conventions=Conventions(activation=nn.ReLU, bn_eps=1e-5))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert not any(isinstance(module, nn.ReLU6) for module in network.modules())


def test_v2_in_tensorflows_conventions_differs_in_padding_norm_and_input_alone() -> None:
    """The same names and initial weights; the outputs are those of torch's own layers after padding by hand."""
    torch.manual_seed(0)
    ours = build_backbone("mobilenet_v2_0.35", "keras").eval()
    torch.manual_seed(0)
    plain = build_backbone("mobilenet_v2_0.35").eval()
    state = {name: value for name, value in plain.state_dict().items() if not name.startswith("normalize.")}
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in state.items())
    assert ours.conventions == KERAS
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, inputs: (functional.pad(inputs[0], (0, 1, 0, 1)),))
    x = images(64)
    expected = plain.layers(x / 127.5 - 1).mean((2, 3))
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v2_0.5", "mobilenet_v3_large_0.5", "mobilenet_v3_small_0.5"])
def test_a_tapped_expansion_is_the_input_of_the_next_strided_convolution(name: str) -> None:
    network, x = build_backbone(name).eval(), images(75)
    before = network.features(x)
    network.tap_expansion(16)
    after = network.features(x)
    *_, last = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    seen: list[torch.Tensor] = []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    network.features(x)
    torch.testing.assert_close(after[16], seen[0])
    assert after[16].shape[1] == network.channels[16] == last.in_channels > before[16].shape[1]
    for stride in (2, 4, 8, 32):
        torch.testing.assert_close(after[stride], before[stride])


def test_v1_has_no_expansions() -> None:
    with pytest.raises(ValueError, match="no expansion"):
        MobileNet(0.25).tap_expansion(16)


@pytest.mark.parametrize(("name", "conventions"), [("mobilenet_v3_large_1.0", "keras"), ("mobilenet_v2_1.0", "timm")])
def test_networks_that_do_not_exist_are_refused(name: str, conventions: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: no such network with the conventions of {conventions}$"):
        build_backbone(name, conventions)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["v3_large", "v3_small"])
def test_v3_with_a_reduced_tail_is_torchvisions(family: str) -> None:
    norm_layer = partial(nn.BatchNorm2d, eps=1e-3)
    theirs = get_model(f"mobilenet_{family}", reduced_tail=True, norm_layer=norm_layer).features.eval()
    ours = build_backbone(f"mobilenet_{family}_1.0_reduced", "torchvision_ssdlite").eval()
    ours.layers.load_state_dict(theirs.state_dict())
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(images)[32], theirs(images / 127.5 - 1))


def test_epsilon_of_v3_is_that_of_the_conventions() -> None:
    for name, eps in (("torchvision", 1e-3), ("torchvision_ssdlite", 1e-3), ("torchvision_faster_rcnn", 1e-5)):
        network = build_backbone("mobilenet_v3_small_1.0", name)  # type: ignore[arg-type]
        assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {eps}
