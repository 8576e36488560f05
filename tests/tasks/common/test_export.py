"""`export`: the file gives the network's outputs, in int8 nearly so, and its folder is a run."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import Tensor, nn

from tasks.common.cli.main import main
from tasks.common.deploy.difference import largest_difference, random_images
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.onnx_file import ExportedNetwork, write_onnx
from tasks.common.deploy.quantization import CORRECTED, FINE_TUNED, NUM_FIRST_LAYERS, UNCORRECTED
from tasks.common.evaluation.scoring import Evaluation
from tasks.common.model.logits import Logits
from tasks.common.runs.exported import open_exported
from tasks.common.runs.load import open_run
from tasks.common.runtime.device import device_of
from tasks.common.verbs import comparison, export
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask


def run(verb: str, *words: str) -> int:
    return main("detection", [verb, *words])


@pytest.fixture(scope="module")
def exported(unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "int8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "CALIBRATION_IMAGES", 8)  # of the few that there are
        words = ["--run", str(unbroken), "--int8", "--finetune", "--max_loss", "1"]
        assert run("export", *words, "--out", str(folder)) == 0
    return folder


def test_report_compares_the_networks(exported: Path, unbroken: Path) -> None:
    report = json.loads((exported / "export.json").read_text())
    pytorch, float32, eight_bits = report["networks"]
    expected = json.loads((unbroken / "metrics.json").read_text())
    assert pytorch["metrics"] == pytest.approx({name: expected[name] for name in pytorch["metrics"]}, abs=1e-6)
    assert float32["metrics"] == pytest.approx(pytorch["metrics"], abs=1e-3)
    assert report["max_difference"] < 1e-5
    titles = [quantization.title for quantization in (UNCORRECTED, CORRECTED, FINE_TUNED)]
    assert [attempt["title"] for attempt in report["int8"]] == titles
    assert eight_bits["bytes"] == (exported / "model.onnx").stat().st_size < 0.5 * float32["bytes"]


def test_folder_explains_itself(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    report = json.loads((exported / "export.json").read_text())
    assert "`boxes_xyxy`" in text
    assert f"| ONNX, int8 | {report['networks'][2]['metrics']['AP']:.4f} |" in text
    assert "trained from random ones" in text
    assert "python predictor.py photo.jpg" in text
    assert (exported / "predictor.py").is_file()


def test_exported_folder_is_a_run(
    exported: Path, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(exported, moved)
    settings, before = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (moved, unbroken))
    assert settings == before
    report = json.loads((exported / "export.json").read_text())
    capsys.readouterr()
    assert run("evaluate", "--run", str(moved), "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    del scores["threshold"]
    assert scores == report["networks"][2]["metrics"]
    tables = [folder / "thresholds.csv" for folder in (moved, moved / "evaluate-val")]
    assert tables[0].read_bytes() == tables[1].read_bytes() != (unbroken / "thresholds.csv").read_bytes()
    assert (moved / "evaluate-val" / "predictions.png").is_file()


def test_weights_are_int8_with_a_scale_per_channel(exported: Path) -> None:
    graph = onnx.load(exported / "model.onnx").graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 27 + 8 + 12  # Table 1, SSD's extra layers, two predictors for each of six feature maps
    for node in convolutions[NUM_FIRST_LAYERS:]:
        weight, scale = (values[name] for name in makers[node.input[1]].input[:2])
        assert weight.dtype == np.int8
        assert scale.shape == weight.shape[:1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", "--data.input_size", "96", "--run"), "data.input_size: 64 is built into "),
        (("evaluate", "--record", "measured.jsonl", "--run"), "--record: only for trained networks"),
        (("export", "--run"), "is an exported network; give the run that it was exported from"),
        (("train", "--resume"), "no such checkpoint"),
    ],
)
def test_unsupported_commands_of_an_exported_network_are_refused(
    exported: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in exported.iterdir())
    assert run(*words, str(exported)) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(path.name for path in exported.iterdir()) == before


def test_external_files_and_those_of_other_tasks_are_refused(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported, other)
    model: Any = onnx.load(other / "model.onnx")
    onnx.helper.set_model_props(model, {"task": "embedding", "metadata": "{}", "settings": "{}"})
    onnx.save(model, other / "model.onnx")
    with pytest.raises(ValueError, match=r"model\.onnx: was exported from the task 'embedding', not from detection"):
        open_exported("detection", DetectionConfig(), other)
    for metadata, settings in (("{", "{}"), ("{}", "[1]"), ("3", "{}")):
        onnx.helper.set_model_props(model, {"task": "detection", "metadata": metadata, "settings": settings})
        onnx.save(model, other / "model.onnx")
        with pytest.raises(
            ValueError, match=r"model\.onnx: its properties .* are missing or damaged; .*export the run"
        ):
            open_exported("detection", DetectionConfig(), other)
    onnx.helper.set_model_props(model, {"task": "detection", "metadata": "[]", "settings": "{}"})
    onnx.save(model, other / "model.onnx")
    with pytest.raises(ValueError, match=r"model\.onnx: not a model of tasks\.detection: .* no class_names; "):
        open_exported("detection", DetectionConfig(), other)
    del model.metadata_props[:]
    onnx.save(model, other / "model.onnx")
    with pytest.raises(ValueError, match=r"model\.onnx: its properties .* are missing or damaged"):
        open_run(other, DetectionTask, DetectionConfig)


def test_a_network_that_torch_cannot_export_is_one_line_with_the_reason(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def forward(self, images: Tensor) -> Logits:
            means = images.float().mean((2, 3))
            return Logits(2 * means if means.sum() > 3 else means)

    with pytest.raises(ValueError, match=r"^Branches cannot be exported to ONNX by torch 2.*: .*data-dependent.*$"):
        write_onnx(Branches(), 8, tmp_path / "model.onnx", "detection", {})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_latencies_are_compared_on_the_cpu(
    device: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's network is evaluated on its device, and a copy is timed on the CPU, as ONNX Runtime is."""
    timed: list[nn.Module] = []
    evaluated: list[nn.Module] = []
    original = comparison.TorchPredictor

    def predictor(task: DetectionTask, network: nn.Module) -> Any:
        timed.append(network)
        return original(task, network)

    def evaluate_source(task: DetectionTask, network: nn.Module, *_: object) -> Evaluation[Any]:
        evaluated.append(network)
        return Evaluation({task.score_name: 0.5}, 1, 0, task.metric())

    monkeypatch.setattr(comparison, "TorchPredictor", predictor)
    monkeypatch.setattr(comparison, "evaluate_source", evaluate_source)
    words = ("--run", str(unbroken), "--raw", "--loop.device", device, "--out", str(tmp_path / "out"))
    assert run("export", *words) == 0
    assert [device_of(network).type for network in timed] == ["cpu", "cpu"]
    assert [device_of(network).type for network in evaluated] == [device, "cpu"]
    assert timed[0] is not evaluated[0]
    assert timed[1] is evaluated[1]


def test_a_file_with_other_outputs_is_not_kept(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = ExportedNetwork.forward

    def forward(network: ExportedNetwork, images: Tensor) -> Any:
        outputs = original(network, images)
        return outputs._replace(box_deltas=1.5 * outputs.box_deltas)

    monkeypatch.setattr(ExportedNetwork, "forward", forward)
    assert run("export", "--run", str(unbroken), "--out", str(tmp_path / "out")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "box_deltas of the ONNX file differs from PyTorch's by 5.0e-01 of its largest value" in line
    assert "expected at most 1e-03; update torch and onnxruntime" in line
    assert not (tmp_path / "out").exists()


class Pair(NamedTuple):
    scores: Tensor
    boxes: Tensor


class Constant(nn.Module):
    """Returns the same outputs for all images, and records torch's matmul precision."""

    precision = ""

    def __init__(self, *outputs: list[float]) -> None:
        super().__init__()
        self.outputs = Pair(*map(torch.tensor, outputs))

    def forward(self, _: Tensor) -> Pair:
        self.precision = torch.get_float32_matmul_precision()
        return self.outputs


PIXELS = random_images(32)


def test_difference_is_relative_to_the_largest_value() -> None:
    network = Constant([1.0, -4.0], [0.0, 0.0])
    other = Constant([1.002, -4.0], [0.0, 0.0])
    assert largest_difference(network, other, PIXELS) == pytest.approx(0.0005, rel=1e-3)
    assert largest_difference(network, network, PIXELS) == 0
    for boxes in ([0.0, 1e-6], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="boxes of the ONNX file differs"):
            largest_difference(network, Constant([1.0, -4.0], boxes), PIXELS)


def test_difference_is_computed_without_tf32() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as in `setup_device` on a GPU
    try:
        network = Constant([1.0], [])
        largest_difference(network, network, PIXELS)
        assert (network.precision, torch.get_float32_matmul_precision()) == ("highest", "high")
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture
def elsewhere(unbroken: Path, tmp_path: Path) -> Path:
    """A run on a machine without its data."""
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"]["root"] = str(tmp_path / "the old place")
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return run


def test_a_run_without_its_data_is_exported_without_scores(
    elsewhere: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(unbroken.iterdir())
    capsys.readouterr()
    assert run("export", "--run", str(elsewhere)) == 0
    lines = capsys.readouterr().err.splitlines()
    reasons = [line for line in lines if line.startswith("scores were not compared: data.root: there is no folder")]
    assert len(reasons) == 1
    report = json.loads((elsewhere / "export" / "export.json").read_text())
    assert [network["metrics"] for network in report["networks"]] == [{}, {}]
    assert report["max_difference"] < 1e-5
    model, metadata = ExportedModel(elsewhere / "export" / "model.onnx"), unbroken / "metadata.json"
    assert model.metadata == json.loads(metadata.read_text())
    assert sorted(unbroken.iterdir()) == before


def test_int8_without_training_images_is_refused_before_anything_is_written(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("export", "--run", str(elsewhere), "--int8") == 1
    assert capsys.readouterr().err.startswith(
        "error: --int8: needs training images for the ranges of its values: data.root: there is no folder"
    )
    assert not (elsewhere / "export-int8").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--finetune"], "--finetune: trains the network for 8 bits; give --int8 too"),
        (
            ["--finetune", "--int8"],
            "--finetune: trains on other images than the 100 that 8 bits are chosen by; expected ",
        ),
    ],
    ids=["without int8", "few images"],
)
def test_fine_tuning_that_cannot_be_done_is_refused(
    flags: list[str], message: str, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("export", "--run", str(unbroken), *flags, "--out", str(tmp_path / "out")) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
