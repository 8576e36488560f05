"""The networks against torchvision's and hand arithmetic."""

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, lraspp_mobilenet_v3_large

from backbone.build import build_backbone
from backbone.cost import count_cost
from tasks.common.deploy.inference import inference_copy
from tasks.segmentation.layers import resize_map
from tasks.segmentation.model import AuxiliaryOutputs, SegmentationOutputs, build_model
from tests.networks import randomise_bn

NUM_CLASSES = 5
HEADS = ("deeplabv3plus", "deeplabv3", "lraspp")


def images(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)


LAYER = {"0": "conv", "1": "bn"}


def lraspp_name(name: str) -> str:
    """torchvision's name of a weight -> ours."""
    match name.split("."):
        case ["backbone", *rest]:
            return ".".join(("backbone.layers", *rest))
        case ["classifier", "cbr", layer, kind]:
            return f"decode_head.project.{LAYER[layer]}.{kind}"
        case ["classifier", "scale", "1", kind]:
            return f"decode_head.gate.{kind}"
        case ["classifier", "low_classifier", kind]:
            return f"decode_head.finer_classifier.{kind}"
        case ["classifier", "high_classifier", kind]:
            return f"decode_head.classifier.{kind}"
    raise KeyError(name)


def deeplab_name(name: str) -> str:
    """The same for DeepLabV3."""
    match name.split("."):
        case ["backbone", *rest]:
            return ".".join(("backbone.layers", *rest))
        case ["classifier", "0", "convs", "4", layer, kind]:
            return f"decode_head.aspp.pooling.{LAYER[str(int(layer) - 1)]}.{kind}"
        case ["classifier", "0", "convs", branch, layer, kind]:
            return f"decode_head.aspp.branches.{branch}.{LAYER[layer]}.{kind}"
        case ["classifier", "0", "project", layer, kind]:
            return f"decode_head.aspp.project.{LAYER[layer]}.{kind}"
        case ["classifier", "4", kind]:
            return f"decode_head.classifier.{kind}"
        case ["classifier", layer, kind]:
            return f"decode_head.refine.0.{LAYER[str(int(layer) - 1)]}.{kind}"
        case ["aux_classifier", "4", kind]:
            return f"auxiliary_head.classifier.{kind}"
        case ["aux_classifier", layer, kind]:
            return f"auxiliary_head.conv.{LAYER[layer]}.{kind}"
    raise KeyError(name)


@pytest.mark.parametrize(
    ("head", "build", "rename"),
    [
        ("lraspp", lraspp_mobilenet_v3_large, lraspp_name),
        ("deeplabv3", partial(deeplabv3_mobilenet_v3_large, aux_loss=True), deeplab_name),
    ],
)
def test_logits_equal_those_of_torchvision(
    head: str, build: Callable[..., nn.Module], rename: Callable[[str], str]
) -> None:
    """Those of the auxiliary head, too; and the two networks have the same weights and nothing else."""
    theirs = build(weights=None, weights_backbone=None, num_classes=NUM_CLASSES).eval()
    randomise_bn(theirs)
    has_auxiliary_head = head == "deeplabv3"
    backbone = build_backbone("mobilenet_v3_large_1.0", "torchvision_segmentation")
    ours = build_model(backbone, NUM_CLASSES, head=head, has_auxiliary_head=has_auxiliary_head).eval()  # type: ignore[arg-type]
    state = {rename(name): value for name, value in theirs.state_dict().items()}
    normalisation = {name: value for name, value in ours.state_dict().items() if ".normalize." in name}
    ours.load_state_dict(state | normalisation)
    x = images(97, 131)
    with torch.no_grad():
        expected = theirs(backbone.normalize(x))
        maps = backbone.features(x)
        logits = {"out": ours(x).logits}
        if ours.auxiliary_head is not None:
            logits["aux"] = ours.auxiliary_head(maps)
    assert logits.keys() == expected.keys()
    for name in expected:
        assert expected[name].std() > 0.1
        torch.testing.assert_close(resize_map(logits[name], (97, 131)), expected[name], atol=1e-4, rtol=0)


def test_mult_adds_of_deeplabv3plus_on_mobilenet_at_513_px() -> None:
    """By hand, with 21 classes at output stride 16: maps of 33 pixels, and of 129 in the decoder."""
    blocks = [(32, 64, 257), (64, 128, 129), (128, 128, 129), (128, 256, 65), (256, 256, 65)]
    blocks += [(256, 512, 33), *[(512, 512, 33)] * 5, (512, 1024, 33), (1024, 1024, 33)]
    expected = 27 * 32 * 257**2 + sum((9 * inputs + inputs * outputs) * side**2 for inputs, outputs, side in blocks)
    expected += 33**2 * (1024 * 256 + 3 * (9 * 1024 + 1024 * 256) + 5 * 256 * 256) + 1024 * 256
    expected += 129**2 * (128 * 48 + (9 * 304 + 304 * 256) + (9 * 256 + 256 * 256) + 256 * 21)
    model = build_model(build_backbone("mobilenet_1.0"), 21, has_auxiliary_head=True)
    model = inference_copy(model).to("meta")  # type: ignore[assignment]
    assert count_cost(model, torch.zeros(1, 3, 513, 513, dtype=torch.uint8, device="meta")).mult_adds == expected


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("output_stride", "name"), [(8, "mobilenet_v2_0.5"), (16, "mobilenet_0.25")])
def test_logits_are_at_the_stride_of_the_head_for_any_size(head: str, output_stride: int, name: str) -> None:
    model = build_model(build_backbone(name), NUM_CLASSES, head=head, output_stride=output_stride)  # type: ignore[arg-type]
    stride = {"deeplabv3plus": 4, "deeplabv3": output_stride, "lraspp": output_stride // 2}[head]
    logits = model(images(75, 50)).logits
    assert logits.shape == (2, NUM_CLASSES, -(-75 // stride), -(-50 // stride))


def test_dilation_of_aspp_covers_the_same_pixels_at_any_output_stride() -> None:
    def dilations(output_stride: int) -> list[int]:
        model = build_model(build_backbone("mobilenet_0.25"), 2, output_stride=output_stride)  # type: ignore[arg-type]
        convolutions = [m for m in model.decode_head.aspp.modules() if isinstance(m, nn.Conv2d)]
        return [convolution.dilation[0] for convolution in convolutions if convolution.kernel_size[0] == 3]

    assert dilations(16) == [6, 12, 18]  # section 4 of Chen et al. 2018
    assert dilations(8) == [12, 24, 36]


def test_the_width_scales_the_head() -> None:
    narrow, wide = (build_model(build_backbone(f"mobilenet_{width}"), 2).state_dict() for width in ("0.5", "1.0"))
    assert narrow.keys() == wide.keys()
    for name, tensor in narrow.items():
        if re.fullmatch(r"decode_head\..*\.bn\.weight", name) and "depthwise" not in name:
            assert len(wide[name]) == 2 * len(tensor)


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_is_trained_and_the_auxiliary_head_only_then(head: str) -> None:
    model = build_model(build_backbone("mobilenet_0.25"), NUM_CLASSES, head=head, has_auxiliary_head=True)  # type: ignore[arg-type]
    x = images(64, 64)
    outputs = model.train()(x)
    assert isinstance(outputs, AuxiliaryOutputs)
    (outputs.logits.square().sum() + outputs.auxiliary.square().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    with torch.no_grad():
        logits = model.eval()(x)
        assert isinstance(logits, SegmentationOutputs)
        torch.testing.assert_close(model.from_feature_maps(model.backbone.features(x)).logits, logits.logits)
        deployed = inference_copy(model)
        torch.testing.assert_close(deployed(x).logits, logits.logits)
    assert not any(name.startswith("auxiliary_head") for name in deployed.state_dict())


def test_a_network_at_another_output_stride_takes_the_same_weights() -> None:
    coarse, fine = (
        build_model(build_backbone("mobilenet_0.25"), NUM_CLASSES, output_stride=output_stride)
        for output_stride in (16, 8)
    )
    fine.load_state_dict(coarse.state_dict())
