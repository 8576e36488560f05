import subprocess
import sys

import pytest

from backbone.names import BackboneName, parse_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_1.0", BackboneName(1.0)),
        ("mobilenet_0.5_160", BackboneName(0.5, input_size=160)),
        ("mobilenet_1.0_conv", BackboneName(1.0, variant="conv")),
        ("mobilenet_1.0_shallow_192", BackboneName(1.0, variant="shallow", input_size=192)),
        ("mobilenet_1.37", BackboneName(1.37)),
        ("mobilenet_1.0_head", BackboneName(1.0, variant="head")),
        ("mobilenet_v2_0.5", BackboneName(0.5, "v2")),
        ("mobilenet_v3_small_1.0_192", BackboneName(1.0, "v3_small", input_size=192)),
        ("mobilenet_v3_large_1.0_reduced", BackboneName(1.0, "v3_large", "reduced")),
        ("mobilenet_v3_small_0.5_reduced_320", BackboneName(0.5, "v3_small", "reduced", 320)),
        ("mobilenet_0.5_linear", BackboneName(0.5, depthwise="linear")),
        ("mobilenet_0.5_hardswish_96", BackboneName(0.5, input_size=96, activation="hardswish")),
        ("mobilenet_0.5_late_plain_relu", BackboneName(0.5, variant="late", depthwise="plain", activation="relu")),
        ("mobilenet_0.5_conv_relu", BackboneName(0.5, variant="conv", activation="relu")),
        ("resnet50_0.25", BackboneName(0.25, "resnet50", "conv")),
        ("resnet50_1.0_separable_96", BackboneName(1.0, "resnet50", "separable", 96)),
    ],
)
def test_names_are_parsed_to_width_variant_and_size(name: str, expected: BackboneName) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenet", "mobilenet_0", "mobilenet_0.5_", "mobilnet_1.0", "mobilenet_1.0_0", ""),
        *("mobilenet_v2_1.0_conv", "mobilenet_v4_1.0", "mobilenet_1.0_reduced", "mobilenet_v2_1.0_reduced"),
        *("mobilenet_1.0_conv_linear", "mobilenet_v2_1.0_relu", "mobilenet_v3_small_1.0_plain", "mobilenet_1.0_relu6"),
        *("mobilenet_1.0_relu_plain", "mobilenet_1.0_separable", "resnet50", "resnet50_1.0_conv", "resnet50_1.0_relu"),
    ],
)
def test_invalid_names_are_refused_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match="backbone name"):
        parse_name(name)


def test_parsing_does_not_load_torch() -> None:
    code = "import sys; from backbone.names import parse_name; parse_name('mobilenet_1.0')"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
