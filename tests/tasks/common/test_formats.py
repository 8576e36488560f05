"""`export --format`: files for other runtimes have the network's outputs and scores; what is missing is said in a line.

The tests of a runtime are skipped where its extra is not installed.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from tasks.common.cli.commands import COMMANDS
from tasks.common.cli.main import main
from tasks.common.cli.parser import build_parser
from tasks.common.deploy.bias_correction import Layer, read_layers
from tasks.common.deploy.formats.litert_int8 import holding_biases
from tasks.common.deploy.formats.source import ConversionSource, Open, WriteInt8, silence
from tasks.common.deploy.formats.table import FORMATS, Format
from tasks.common.deploy.quantization import CORRECTED, UNCORRECTED
from tasks.common.deploy.session import INPUT, open_session
from tasks.common.runtime import extras
from tasks.detection.config import DetectionConfig
from tests.test_layers import REPOSITORY

FILES = {
    "openvino": ["model.bin", "model.xml"],
    "litert": ["model.tflite"],
    "executorch": ["model.pte"],
}


def export(run: Path, name: str, out: Path, *flags: str) -> int:
    return main("detection", ["export", "--run", str(run), "--format", name, "--out", str(out), *flags])


def test_formats_are_choices_and_extras() -> None:
    parser = build_parser(DetectionConfig, COMMANDS["export"])
    (action,) = (action for action in parser._actions if action.dest == "format")
    assert action.choices is not None
    assert set(FORMATS) <= set(action.choices)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(FORMATS) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("found", "described"), [(None, "no such package"), ("0.0.1", "0.0.1")])
def test_a_missing_or_old_package_is_a_line_with_the_command(
    name: str,
    found: str | None,
    described: str,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def version(_: str) -> str:
        if found is None:
            raise PackageNotFoundError
        return found

    monkeypatch.setattr(extras, "version", version)
    capsys.readouterr()
    assert export(unbroken, name, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --format {name}: needs ")
    assert line.endswith(f", found {described}; install it with: pip install '.[{name}]'")
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_too_new_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "version", lambda package: {"torch": "2.15.0"}.get(package, "99.0"))
    with pytest.raises(ValueError, match=r"--format litert: needs torch<2\.15, found 2\.15\.0; install it with"):
        extras.check_packages("litert", "--format")


def test_eight_bits_are_refused_where_there_is_no_way(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "version", lambda _: "9999.0")
    assert export(unbroken, "executorch", tmp_path / "out", "--int8") == 1
    assert "--int8: files for ExecuTorch are in float32" in capsys.readouterr().err


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A format that runs the network in PyTorch, times the number in the list."""
    factors = [1.0]

    def convert(source: ConversionSource, folder: Path) -> Any:
        (folder / "model.stand_in").write_bytes(bytes(1000))
        print("chatter of a converter")
        network = source.portable()

        def run(image: np.ndarray) -> list[np.ndarray]:
            assert image.flags.c_contiguous  # ExecuTorch does not look at the strides
            with torch.inference_mode():
                return [factors[0] * output.numpy() for output in network(torch.from_numpy(image))]

        return lambda _: run

    monkeypatch.setitem(FORMATS, "litert", Format("Stand-in", convert))
    monkeypatch.setattr(extras, "version", lambda _: "2.14.1")
    monkeypatch.setattr(extras, "Requirement", _AnyVersion)
    return factors


class _AnyVersion:
    def __init__(self, text: str) -> None:
        self.name, self.specifier = text, self

    def contains(self, _: str, *, prereleases: bool) -> bool:
        return prereleases


def test_a_format_is_compared_and_kept(
    stand_in: list[float], unbroken: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(unbroken, "litert", tmp_path / "out") == 0
    printed = capfd.readouterr().out
    assert "chatter" not in printed
    assert "between the outputs of PyTorch and Stand-in 2.14.1: " in printed
    assert "agree with the ONNX file's: 1.000, over 8 validation images" in printed  # all that there are
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["format"]["check"]["max_difference"] < 1e-5
    pytorch, other, onnx = report["networks"]
    assert (other["network"], onnx["network"]) == ("Stand-in 2.14.1", "ONNX, float32")
    assert other["metrics"] == pytest.approx(pytorch["metrics"], abs=1e-6)
    assert other["bytes"] == (tmp_path / "out" / "model.stand_in").stat().st_size == 1000
    assert report["format"]["files"] == ["model.stand_in"]
    assert (tmp_path / "out" / "model.onnx").is_file()


@pytest.mark.usefixtures("stand_in")
def test_eight_bits_of_a_format_are_found_compared_and_kept(
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By a stand-in that runs the quantised ONNX files in ONNX Runtime."""
    first_layers, num_images = [], []

    def int8(_: ConversionSource, images: Sequence[Any]) -> WriteInt8:
        num_images.append(len(images))

        def write(quantized: Path, folder: Path) -> Open:
            (folder / "model.stand_in").write_bytes(bytes(500))
            layers = list(read_layers(onnx.load(quantized)).values())
            first_layers.append([layer.scales is None for layer in layers[:3]])
            session = open_session(quantized)
            return lambda _: lambda image: session.run(None, {INPUT: image})

        return write

    monkeypatch.setitem(FORMATS, "litert", Format("Stand-in", lambda *_: None, int8=int8, num_first_layers=1))
    assert export(unbroken, "litert", tmp_path / "out", "--int8", "--max_loss", "1") == 0
    assert first_layers == [[True, False, False]] * 2
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert [row["network"] for row in report["networks"]] == [
        "PyTorch", "ONNX, float32", "Stand-in, int8", "ONNX, int8",
    ]  # fmt: skip
    assert report["networks"][2]["bytes"] == 500
    assert report["format"]["check"] is None
    ours, theirs = report["int8"], report["format"]["int8"]
    assert [one["title"] for one in theirs] == [one["title"] for one in ours] == [UNCORRECTED.title, CORRECTED.title]
    assert sum(one["score"] is not None for one in theirs) == 1
    captured = capsys.readouterr()
    assert "model.stand_in: 8 bits, 0.00 MB, by Stand-in 2.14.1" in captured.out
    assert "8 bits in Stand-in" in captured.err
    assert (tmp_path / "out" / "model.stand_in").is_file()
    assert len(num_images) == 1


def test_other_outputs_are_refused(
    stand_in: list[float], unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in[0] = 1.5
    assert export(unbroken, "litert", tmp_path / "out") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "class_logits of the Stand-in file differs from PyTorch's by 5.0e-01 of its largest value" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("stand_in")
def test_a_converter_that_fails_is_one_line(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(*_: object) -> None:
        raise RuntimeError("no such operator\nand forty lines more")

    monkeypatch.setitem(FORMATS, "litert", Format("Stand-in", convert))
    assert export(unbroken, "litert", tmp_path / "out") == 1
    assert capsys.readouterr().err.splitlines()[-1] == ("error: SSD cannot be converted to Stand-in: no such operator")


def test_silence_ends(capfd: pytest.CaptureFixture[str]) -> None:
    def convert() -> None:
        with silence():
            print("unheard")
            raise ValueError("of a converter")

    with pytest.raises(ValueError, match="of a converter"):
        convert()
    print("heard")
    assert capfd.readouterr().out == "heard\n"


def test_int32_holds_the_biases_of_rounded_kernels() -> None:
    """A channel's step is its largest weight / 127, times the input's step, range / 255."""
    kernel = np.array([[0.5, -0.25], [0, 0], [1e-9, -2e-9]], np.float32).reshape(3, 2, 1, 1)
    bias, input_range = np.array([3.0, -3.0, 2.0], np.float32), 6.0
    held = holding_biases(Layer(kernel, bias, np.ones(3, np.float32)), input_range)
    np.testing.assert_array_equal(held[0], kernel[0])
    assert np.all(held[1:] != kernel[1:], axis=(2, 3)).tolist() == [[True, False]] * 2
    steps = np.abs(held).max((1, 2, 3)) / 127 * input_range / 255
    assert np.all(np.abs(bias) / steps < 2**31 - 1)
    assert np.all(np.abs(held - kernel).sum((1, 2, 3)) * input_range < 1e-4 * np.abs(bias))
    in_float32 = Layer(kernel, bias, None)
    assert holding_biases(in_float32, input_range) is kernel


class Outputs(NamedTuple):
    maps: Tensor
    sums: Tensor
    constant: Tensor


class Small(nn.Module):
    """Two convolutions in the layout of the suite's networks, and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 4, 1))
        self.register_buffer("constant", torch.arange(6.0).reshape(3, 2))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Outputs:
        maps = self.layers(images.to(torch.float32, memory_format=torch.channels_last) / 255)
        constant = self.constant
        assert isinstance(constant, Tensor)
        return Outputs(maps, maps.sum((2, 3)), constant)


def test_portable_networks_have_contiguous_weights_and_the_same_outputs(tmp_path: Path) -> None:
    network = Small().eval()
    source = ConversionSource(network, Outputs._fields, tmp_path, 16)
    portable = source.portable()
    assert not network.layers[0].weight.is_contiguous()
    assert all(value.is_contiguous() for value in portable.state_dict().values())
    outputs = portable(source.example())
    assert type(outputs) is tuple
    for a, b in zip(outputs, network(source.example()), strict=True):
        torch.testing.assert_close(a, b)


def export_alone(run: Path, name: str, out: Path, *flags: str) -> None:
    """In a process of its own: ExecuTorch crashed in one that had run OpenVINO, and why was not found."""
    words = ["export", "--run", str(run), "--format", name, "--out", str(out), *flags]
    done = subprocess.run([sys.executable, "-m", "tasks.detection", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _skip_without(name: str) -> None:
    try:
        extras.check_packages(name, "--format")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["openvino", "litert", "executorch"])
def test_files_have_the_outputs_of_the_network(name: str, unbroken: Path, tmp_path: Path) -> None:
    _skip_without(name)
    export_alone(unbroken, name, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["format"]["files"] == FILES[name]
    assert all((tmp_path / "out" / file).exists() for file in FILES[name])
    pytorch, other, _ = report["networks"]
    assert report["format"]["check"]["max_difference"] < 1e-4
    assert other["metrics"] == pytest.approx(pytorch["metrics"], abs=2e-3)


@pytest.mark.parametrize("name", ["openvino", "litert"])
def test_files_in_eight_bits_predict_as_onnx_runtime_does(name: str, unbroken: Path, tmp_path: Path) -> None:
    _skip_without(name)
    export_alone(unbroken, name, tmp_path / "out", "--int8", "--max_loss", "1")
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["format"]["files"] == FILES[name]
    in_float32, in_format, in_onnx = report["networks"][1:]
    # OpenVINO's description is a large part of so small a network.
    assert in_format["bytes"] < 0.6 * in_float32["bytes"]
    assert in_format["metrics"]["AP50"] == pytest.approx(in_onnx["metrics"]["AP50"], abs=0.05)
    for ours, theirs in zip(report["int8"], report["format"]["int8"], strict=True):
        # Of a few hundred boxes of a network after one epoch; in OpenVINO the first two layers are in 8 bits, too.
        assert theirs["agreement"] == pytest.approx(ours["agreement"], abs=0.1)


@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")  # when coremltools is imported
def test_coreml_files_have_the_structure_of_the_network(unbroken: Path, tmp_path: Path) -> None:
    _skip_without("coreml")
    export_alone(unbroken, "coreml", tmp_path / "out")
    import coremltools

    spec = coremltools.utils.load_spec(str(tmp_path / "out" / "model.mlpackage"))
    (image,) = spec.description.input
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("image", 64, 64)
    assert [output.name for output in spec.description.output] == ["class_logits", "box_deltas", "anchors"]
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    convolutions = sum(operation.type == "conv" for operation in block.operations)
    assert convolutions == 27 + 8 + 12  # Table 1, SSD's extra layers, two predictors for each of six feature maps
