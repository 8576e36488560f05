from functools import partial
from itertools import pairwise

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


@pytest.mark.parametrize(
    ("name", "num_layers"), [("0.25", 14), ("0.25_conv", 14), ("0.25_shallow", 9), ("0.25_head", 15)]
)
def test_channels_are_given_layer_by_layer(name: str, num_layers: int) -> None:
    channels = range(3, 3 + num_layers)
    network = build_backbone(f"mobilenet_{name}", channels=channels).eval()
    images_of_layer = network.normalize(images(64))
    for layer, expected in zip(network.layers, channels, strict=True):
        images_of_layer = layer(images_of_layer)
        assert images_of_layer.shape[1] == expected
    assert network.num_features == channels[-1]
    with pytest.raises(ValueError, match=f"channels: expected {num_layers} numbers, one for each layer, got 2"):
        build_backbone(f"mobilenet_{name}", channels=[8, 8])


def test_channels_of_v2_and_v3_cannot_be_given() -> None:
    with pytest.raises(ValueError, match=r"mobilenet_v2_1\.0: channels can be given for MobileNet v1 only"):
        build_backbone("mobilenet_v2_1.0", channels=[8, 8])


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


def set_gates_constant(network: nn.Module) -> None:
    """Squeeze-and-excitation without its input: its mean is over other positions in a dilated network."""
    for name, module in network.named_modules():
        if name.endswith("fc2"):
            nn.init.zeros_(module.weight)


def dense_positions(size: int, stride: int, output_stride: int, *, pads_as_tf: bool) -> torch.Tensor:
    """Where in a row at `output_stride` the centres are of the cells at `stride`."""
    if stride == output_stride:
        return torch.arange(-(-size // stride))
    finer = -(-size // (stride // 2))
    first = int(pads_as_tf and finer % 2 == 0)  # TensorFlow's kernels begin at the first pixel of an even row
    return dense_positions(size, stride // 2, output_stride, pads_as_tf=pads_as_tf)[first::2]


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(("name", "conventions"), [*((n, None) for n in NAMES), ("mobilenet_v2_0.5", "keras")])
def test_a_dilated_network_equals_the_strided_one_at_its_positions(
    name: str, conventions: None, output_stride: int
) -> None:
    """At all positions, up to the border, for odd and even maps; finer maps and the state dict are the same."""
    strided = build_backbone(name, conventions).eval()
    set_gates_constant(strided)
    dilated = build_backbone(name, conventions).eval()
    dilated.set_output_stride(output_stride)
    state = dilated.state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in strided.state_dict().items()}
    dilated.load_state_dict(strided.state_dict())
    height, width = 75, 122  # maps of 10 and 16 cells at stride 8, 5 and 8 at 16, 3 and 4 at 32
    x = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        maps, sparse = dilated.features(x), strided.features(x)
    assert list(maps) == [stride for stride in (2, 4, 8, 16) if stride <= output_stride]
    for stride in maps:
        assert maps[stride].shape == (1, dilated.channels[stride], -(-height // stride), -(-width // stride))
        if stride < output_stride:
            assert torch.equal(maps[stride], sparse[stride])
    pads_as_tf = strided.conventions.padding == "tf_same"
    rows, columns = (dense_positions(n, 32, output_stride, pads_as_tf=pads_as_tf) for n in (height, width))
    dense = maps[output_stride][:, :, rows][..., columns]
    assert sparse[32].std() > 0
    scale = sparse[32].abs().max()
    torch.testing.assert_close(dense / scale, sparse[32] / scale, atol=1e-4, rtol=0)
    assert dilated.num_features == dilated.channels[output_stride] == strided.num_features


def test_an_output_stride_is_reached_in_steps_and_must_exist() -> None:
    def geometry(*output_strides: int) -> list[tuple[object, ...]]:
        network = MobileNet(0.25)
        for output_stride in output_strides:
            network.set_output_stride(output_stride)
        return [(m.stride, m.padding, m.dilation) for m in network.modules() if isinstance(m, nn.Conv2d)]

    assert geometry(16, 8) == geometry(8) != geometry(16)
    assert geometry(32) == geometry()
    with pytest.raises(ValueError, match="no feature map at stride 64"):
        geometry(64)


@pytest.mark.parametrize("family", ["v3_large", "v3_small"])
def test_torchvisions_segmentation_conventions_are_its_dilated_network(family: str) -> None:
    """It also dilates the convolution whose stride it replaces, and takes the first map at a stride."""
    theirs = get_model(f"mobilenet_{family}", dilated=True).features.eval()
    ours = build_backbone(f"mobilenet_{family}_1.0", "torchvision_segmentation").eval()
    ours.set_output_stride(16)
    ours.layers.load_state_dict(theirs.state_dict())
    x = torch.randint(0, 256, (1, 3, 75, 96), dtype=torch.uint8)
    with torch.no_grad():
        maps, outputs = ours.features(x), [ours.normalize(x)]
        for layer in theirs:
            outputs.append(layer(outputs[-1]))
    firsts = [after for before, after in pairwise(outputs) if after.shape[2] < before.shape[2]]
    assert list(maps) == [2, 4, 8, 16]
    for feature_map, expected in zip(maps.values(), [*firsts[:3], outputs[-1]], strict=True):
        torch.testing.assert_close(feature_map, expected)
    assert len(firsts) == 4
