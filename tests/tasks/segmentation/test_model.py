"""The networks against hand arithmetic; against torchvision's in `test_torchvision.py`."""

import re

import pytest
import torch
from torch import Tensor, nn

from backbone.build import build_backbone
from backbone.cost import count_cost
from tasks.common.deploy.inference import inference_copy
from tasks.segmentation.model import AuxiliaryOutputs, SegmentationOutputs, build_model

NUM_CLASSES = 5
HEADS = ("deeplabv3plus", "deeplabv3", "lraspp")


def images(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)


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
