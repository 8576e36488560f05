"""Pruned networks: what is removed, what stays, and the run that `prune` writes."""

import copy
import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

from backbone.build import build_backbone
from backbone.cost import count_cost
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.common.cli.main import main
from tasks.common.model.logits import LogitsModel
from tasks.common.runs.load import open_run
from tasks.common.runtime import extras
from tasks.common.settings import read_config
from tasks.common.training.pruning import narrower_channels, prune_channels, prune_network
from tasks.geolocation.config import GeolocationConfig
from tasks.geolocation.task import GeolocationTask
from tests.networks import randomise_bn
from tests.tasks.common.test_pretrained import save_run
from tests.tasks.conftest import TinyTask, build_config

torch_pruning = pytest.importorskip("torch_pruning")
SIDE = 64


def random_images() -> Tensor:
    return torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(images).logits
    return logits


def makers(model: Any) -> list[nn.Conv2d]:
    """The convolutions that make the channels of each layer."""
    stem, *blocks = model.backbone.layers
    return [stem.conv, *(block.pointwise.conv for block in blocks)]


@pytest.fixture
def model() -> LogitsModel:
    network = LogitsModel(build_backbone("mobilenet_0.25"), 5).eval()
    randomise_bn(network)
    return network


@pytest.fixture
def importances(model: LogitsModel) -> list[Tensor]:
    """Random ones for the channels of each layer, which `prune_by_hand` takes."""
    return [torch.rand(layer.out_channels) for layer in makers(model)]


def backbone_mult_adds(name: str, channels: Sequence[int] | None = None) -> int:
    return count_cost(build_backbone(name, channels=channels), random_images()[:1]).mult_adds


def prune_by_hand(model: Any, importances: list[Tensor], fraction: float) -> Any:
    """A pruned copy; the importances are stored as gradients, of which torch-pruning removes the same rows."""
    pruned = copy.deepcopy(model)

    def importance_of(group: Any) -> Tensor:
        made_by = [dep.target.module for dep, _ in group if dep.handler == torch_pruning.prune_conv_out_channels]
        (maker,) = (layer for layer in made_by if layer.groups == 1)
        importance: Tensor = maker.weight.grad[:, 0, 0, 0]
        return importance

    for layer, importance in zip(makers(pruned), importances, strict=True):
        layer.weight.grad = importance[:, None, None, None].expand_as(layer.weight).clone()
    name = f"mobilenet_{pruned.backbone.width_mult:g}"
    prune_channels(pruned.train(), SIDE, fraction, importance_of, lambda channels: backbone_mult_adds(name, channels))
    return pruned.eval()


def test_channels_that_nothing_reads_are_removed_without_a_change_of_the_outputs(
    model: LogitsModel, importances: list[Tensor]
) -> None:
    readers = [block.pointwise.conv for block in list(model.backbone.layers)[1:]]
    for importance, reader in zip(importances, [*readers, model.head], strict=True):
        dead = importance < 0.5
        reader.weight.data[:, dead] = 0
        importance[~dead] += 1
    pruned = prune_by_hand(model, importances, 0.5)
    images = random_images()
    layers = zip(makers(pruned), makers(model), strict=True)
    assert all(layer.out_channels < before.out_channels for layer, before in layers if before.out_channels > 16)
    torch.testing.assert_close(outputs(pruned, images), outputs(model, images), rtol=1e-5, atol=1e-5)
    # Of a network whose channels are all read it is another function.
    alive = prune_by_hand(LogitsModel(build_backbone("mobilenet_0.25"), 5), importances, 0.5)
    assert not torch.allclose(outputs(alive, images), outputs(model, images), atol=1e-3)


def test_the_most_important_channels_of_each_layer_are_kept(model: LogitsModel, importances: list[Tensor]) -> None:
    pruned = prune_by_hand(model, importances, 0.4)
    inputs = torch.arange(3)
    for importance, before, after in zip(importances, makers(model), makers(pruned), strict=True):
        kept = importance.topk(after.out_channels).indices.sort().values
        torch.testing.assert_close(after.weight, before.weight[kept][:, inputs], rtol=0, atol=0)
        inputs = kept


def convolutions_alone(backbone: nn.Module) -> nn.Module:
    """The same convolutions as torch's own, which torch-pruning counts, and nothing else that it counts."""
    plain = copy.deepcopy(backbone)
    for name, module in list(plain.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.__class__ = nn.Conv2d
        elif isinstance(module, nn.BatchNorm2d | nn.ReLU6):
            plain.set_submodule(name, nn.Identity())
    return plain


@pytest.mark.parametrize("fraction", [0.9, 0.4])
def test_mult_adds_are_those_of_torch_pruning_and_no_more_than_asked_for(
    model: LogitsModel, importances: list[Tensor], fraction: float
) -> None:
    pruned = prune_by_hand(model, importances, fraction)
    images = random_images()[:1]
    before, after = (count_cost(network.backbone, images).mult_adds for network in (model, pruned))
    assert after / before <= fraction
    assert after == torch_pruning.utils.count_ops_and_params(convolutions_alone(pruned.backbone), images)[0]


def narrowed(name: str, fraction: float) -> tuple[list[int], list[int]]:
    """The channels of a network, and those with a fraction of its mult-adds."""
    whole = channels_of(name)
    return whole, narrower_channels(whole, fraction, lambda channels: backbone_mult_adds(name, channels))


def channels_of(name: str) -> list[int]:
    backbone: Any = build_backbone(name)
    return list(backbone.layer_channels)


def test_the_mult_adds_of_a_smaller_width_give_its_channels() -> None:
    fraction = backbone_mult_adds("mobilenet_0.25") / backbone_mult_adds("mobilenet_0.5")
    assert narrowed("mobilenet_0.5", fraction + 1e-6)[1] == channels_of("mobilenet_0.25")


@pytest.mark.parametrize("name", ["mobilenet_0.75", "mobilenet_0.3"])
@pytest.mark.parametrize("fraction", [0.95, 0.6, 0.2])
def test_the_next_wider_network_has_more_mult_adds_than_asked_for(name: str, fraction: float) -> None:
    whole, channels = narrowed(name, fraction)
    most = fraction * backbone_mult_adds(name)
    assert all(count % 8 == 0 or count == all_of_it for count, all_of_it in zip(channels, whole, strict=True))
    assert backbone_mult_adds(name, channels) <= most
    # There the layer that has kept the smallest fraction gets a block more.
    kept = min(count / all_of_it for count, all_of_it in zip(channels, whole, strict=True) if count < all_of_it)
    wider = [min(count, 8 * math.ceil((kept + 1e-9) * count / 8)) for count in whole]
    assert sum(wider) > sum(channels)
    assert backbone_mult_adds(name, wider) > most


def test_all_mult_adds_keep_the_network_as_it_is(model: LogitsModel, importances: list[Tensor]) -> None:
    state = prune_by_hand(model, importances, 1.0).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_network_cannot_lose_all_of_a_layer(model: LogitsModel, importances: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=r"^--mult_adds: expected 0\.\d+ or more, got 0\.001$") as refused:
        prune_by_hand(model, importances, 0.001)
    smallest = prune_by_hand(model, importances, float(str(refused.value).split()[2]))
    assert {layer.out_channels for layer in makers(smallest)} == {8}


def build_tiny(sample: str, roots: Callable[[str], Path]) -> Any:
    return TinyTask(sample, sample.split("/")[0], roots)(data={"input_size": SIDE})


@pytest.mark.parametrize("sample", ["detection/sample", "segmentation/sample"])
def test_networks_with_several_feature_maps_are_built_again(
    sample: str, generated_roots: Callable[[str], Path]
) -> None:
    task = build_tiny(sample, generated_roots)
    network = task.build_model()
    smaller_task, smaller = prune_network(task, network, 0.8)
    assert list(smaller_task.config.backbone.channels) == smaller.backbone.layer_channels
    assert all(channels % 8 == 0 for channels in smaller.backbone.layer_channels)
    before, after = (count_cost(model.backbone, random_images()[:1]).mult_adds for model in (network, smaller))
    assert 0.7 < after / before <= 0.8


def test_a_head_as_wide_as_the_backbone_is_refused(generated_roots: Callable[[str], Path]) -> None:
    task = build_tiny("detection/faster_rcnn_sample", generated_roots)
    with pytest.raises(ValueError, match=r"^FasterRCNN: cannot be pruned, since .*: size mismatch for rpn\.conv"):
        prune_network(task, task.build_model(), 0.8)


def test_an_embedding_that_is_the_last_feature_map_keeps_its_size(generated_roots: Callable[[str], Path]) -> None:
    task = build_tiny("embedding/sample", generated_roots)
    task = task.with_settings(dataclasses.replace(task.config, embedding_dim=None))
    smaller = prune_network(task, task.build_model(), 0.8)[1].backbone.layer_channels
    assert smaller[-1] == 256
    whole = channels_of("mobilenet_0.25")
    assert all(channels < before for channels, before in zip(smaller[6:-1], whole[6:-1], strict=True))


@pytest.fixture(scope="module")
def run(generated_roots: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained run."""
    folder = tmp_path_factory.mktemp("run")
    data = {"root": str(generated_roots("attributes")), "input_size": SIDE}
    more = {"optim": {"batch_size": 8, "epochs": 1}, "loop": {"num_workers": 0}}
    config = build_config(AttributesConfig, backbone={"name": "mobilenet_0.25"}, data=data, **more)
    save_run(folder, AttributesTask.from_data(config))
    return folder


@pytest.mark.filterwarnings("default:.*the same in all images")
def test_a_pruned_run_is_a_run_that_is_trained_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = tmp_path / "pruned", tmp_path / "again"
    assert main("attributes", ["prune", "--run", str(run), "--mult_adds", "0.6", "--out", str(folder)]) == 0
    out, err = capsys.readouterr()
    report = json.loads((folder / "pruning.json").read_text())
    assert report["pruned"] == str(run)
    before, after = report["before"], report["after"]
    assert before["channels"] == [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]
    for key in ("backbone_mult_adds", "num_params"):
        assert f"{before[key] / 1e6:.2f} -> {after[key] / 1e6:.2f}" in out

    metrics = json.loads((folder / "metrics.json").read_text())
    assert main("attributes", ["evaluate", "--run", str(folder), "--json", "--out", str(tmp_path / "scores")]) == 0
    assert json.loads(capsys.readouterr().out)["mean_ap"] == pytest.approx(metrics["mean_ap"])

    card = ModelCard.load(folder / "README.md")
    assert "Attributes by mobilenet_0.25, pruned, at 64 px" in card.text
    assert f"| `python -m tasks.attributes prune --mult_adds 0.6` of `{run.name}`, on " in card.text
    assert f"{after['num_params']:,} parameters" in card.text
    assert {row.metric_name: row.metric_value for row in card.data.eval_results}["mean_ap"] == pytest.approx(
        metrics["mean_ap"], abs=5e-5
    )

    command = err[err.index("train --config") :].split()
    assert command == ["train", "--config", str(folder / "config.yaml"), "--pretrained", str(folder)]
    assert main("attributes", [*command, "--run_dir", str(again)]) == 0
    task, network = open_run(again, AttributesTask, AttributesConfig)
    assert network.backbone.layer_channels == list(task.config.backbone.channels) == after["channels"]
    assert "137 of the network's 137 tensors" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:.*the image is left out")
def test_what_cannot_be_pruned_is_said_in_a_line(
    run: Path, tmp_path: Path, error_line_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def error(*words: str, of: Path = run, task: str = "attributes") -> str:
        line = error_line_of(lambda *more: main(task, more), "prune", "--run", str(of), *words)
        assert not (of / "pruned").exists()
        return line

    for fraction in ("0", "1.5"):
        expected = f"error: --mult_adds: expected a fraction over 0 and at most 1, got {fraction}"
        assert error("--mult_adds", fraction) == expected
    shutil.copytree(run, tmp_path / "exported")
    (tmp_path / "exported" / "model.onnx").touch()
    assert error(of=tmp_path / "exported").endswith("is an exported network; give the run that it was exported from")

    config = read_config(AttributesConfig, run / "config.yaml")
    v2 = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, name="mobilenet_v2_0.5"))
    save_run(tmp_path, AttributesTask.from_data(v2))
    assert error(of=tmp_path) == "error: mobilenet_v2_0.5: cannot be pruned; expected a network on MobileNet v1"
    assert "nowhere" in error("--data.root", str(tmp_path / "nowhere"))
    broken = shutil.copytree(config.data.root, tmp_path / "broken")
    for image in broken.rglob("*.jpg"):
        image.write_bytes(b"no image")
    assert "unreadable" in error("--data.root", str(broken))
    retrieval = build_config(GeolocationConfig, backbone={"name": "mobilenet_0.25"}, data={"input_size": SIDE})
    retrieval = dataclasses.replace(retrieval, method="retrieval")
    save_run(tmp_path, GeolocationTask.with_num_classes(retrieval, 3))
    assert "method: retrieval is not trained" in error(of=tmp_path, task="geolocation")
    with monkeypatch.context() as patch:
        patch.setattr(extras, "version", Mock(side_effect=PackageNotFoundError))
        assert error() == (
            "error: the extra pruning: needs torch-pruning>=1.6, found no such package; install it with: pip install "
            "'.[pruning]'"
        )
