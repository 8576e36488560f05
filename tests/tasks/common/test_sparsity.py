"""Unstructured pruning: what is zero, what goes back to its start, and what stays zero in training."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from backbone.build import build_backbone
from tasks.attributes.config import AttributesConfig
from tasks.attributes.task import AttributesTask
from tasks.common.cli.main import main
from tasks.common.model.logits import LogitsModel
from tasks.common.runs.checkpoint import BEST, load_checkpoint
from tasks.common.training.fit import fit
from tasks.common.training.optim import build_optimizer, kernels
from tasks.common.training.sparsity import count_zeros, keep_zeros, rewind, starting_network
from tests.tasks.common.test_pretrained import save_run
from tests.tasks.conftest import build_config

SIDE = 32


def build_task(root: Path, **optim: Any) -> AttributesTask:
    data = {"root": str(root), "input_size": SIDE}
    more = {"optim": {"batch_size": 16, "epochs": 1, **optim}, "loop": {"num_workers": 0}}
    return AttributesTask.from_data(
        build_config(AttributesConfig, backbone={"name": "mobilenet_0.1"}, data=data, **more)
    )


@pytest.fixture(scope="module")
def task(generated_roots: Callable[[str], Path]) -> AttributesTask:
    return build_task(generated_roots("attributes"))


@pytest.fixture
def trained(task: AttributesTask) -> nn.Module:
    """In place of the trained network: other weights, of its architecture."""
    torch.manual_seed(9)
    return task.build_model()


def test_each_kernel_keeps_its_largest_weights_and_their_values_before_training(
    task: AttributesTask, trained: nn.Module
) -> None:
    sparse_task, sparse = rewind(task, trained, 0.8)
    assert sparse_task.config.optim.keep_zeros
    before = starting_network(task).state_dict()
    trained.to(memory_format=torch.contiguous_format)  # which torch's pruning needs
    pruned = [name.removesuffix(".weight") for name in kernels(sparse)]
    for name in pruned:  # torch's own pruning is the reference for which weights these are
        torch_prune.l1_unstructured(trained.get_submodule(name), "weight", 0.8)
        mask = trained.get_submodule(name).weight_mask
        torch.testing.assert_close(
            sparse.state_dict()[f"{name}.weight"], before[f"{name}.weight"] * mask, rtol=0, atol=0
        )
    for name in before.keys() - {f"{name}.weight" for name in pruned}:  # depthwise kernels, BN and biases
        torch.testing.assert_close(sparse.state_dict()[name], before[name], rtol=0, atol=0)
    depthwise = [module for module in sparse.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert len(depthwise) == 13
    assert not any((module.weight == 0).any() for module in depthwise)


def test_the_start_is_that_of_training(task: AttributesTask, tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def build_model() -> nn.Module:
        model = AttributesTask.build_model(task)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        raise InterruptedError

    watched = task.with_settings(task.config)
    watched.build_model = build_model  # type: ignore[method-assign]
    with pytest.raises(InterruptedError):
        fit(watched, tmp_path)
    torch.rand(3)
    for name, value in starting_network(task).state_dict().items():
        torch.testing.assert_close(value, seen[0][name], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_zeros_stay_zero_under_every_optimiser_and_other_weights_move(task: AttributesTask, name: str) -> None:
    model = LogitsModel(build_backbone("mobilenet_0.1"), 3)
    with torch.no_grad():
        for kernel in kernels(model).values():
            kernel[::2] = 0
    keep_zeros(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(model, dataclasses.replace(task.config.optim, name=name, weight_decay=0.1))
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8)).logits.square().sum().backward()
        optimizer.step()
    for name, kernel in kernels(model).items():
        assert (kernel[::2] == 0).all()
        assert (kernel != before[name]).any(), name


@pytest.mark.filterwarnings("default:.*the same in all images")
def test_a_ticket_is_a_run_that_is_trained_again(
    generated_roots: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = build_task(generated_roots("attributes"))
    run, ticket, again = (tmp_path / name for name in ("run", "ticket", "again"))
    run.mkdir()
    save_run(run, task)
    assert main("attributes", ["prune", "--run", str(run), "--sparsity", "0.75", "--out", str(ticket)]) == 0
    out, err = capsys.readouterr()
    after = json.loads((ticket / "pruning.json").read_text())["after"]
    num_weights = sum(kernel.numel() for kernel in kernels(task.build_model()).values())
    assert after["num_zeros"] == pytest.approx(0.75 * num_weights, rel=1e-2)
    assert f"{after['num_zeros'] / 1e6:.2f} of {after['num_params'] / 1e6:.2f}" in out
    assert "by mobilenet_0.1, sparse, at" in (ticket / "README.md").read_text()

    command = err[err.index("train --config") :].split()
    assert main("attributes", [*command, "--run_dir", str(again)]) == 0
    start, end = (load_checkpoint(folder / BEST, "attributes")["model"] for folder in (ticket, again))
    assert any((start[name] != end[name]).any() for name in start)
    zeros = {name: start[name] == 0 for name in kernels(task.build_model())}
    assert all((end[name][mask] == 0).all() for name, mask in zeros.items())
    assert sum(int(mask.sum()) for mask in zeros.values()) == after["num_zeros"]
    trained = task.build_model()
    trained.load_state_dict(end)
    assert count_zeros(trained) == after["num_zeros"]


def test_what_cannot_be_is_said_in_a_line(
    generated_roots: Callable[[str], Path], tmp_path: Path, error_line_of: Callable[..., str]
) -> None:
    def error(*words: str) -> str:
        return error_line_of(lambda *more: main("attributes", more), *words)

    run = tmp_path / "untrained"
    run.mkdir()
    save_run(run, build_task(generated_roots("attributes")))
    for sparsity in ("0", "1"):
        assert "--sparsity: expected a fraction over 0 and under 1" in error(
            "prune", "--run", str(run), "--sparsity", sparsity
        )
    assert "give --run, not --pretrained" in error("prune", "--pretrained", "keras", "--sparsity", "0.5")
    linear_probe = ["--optim.layers", "linear_probe", "--optim.keep_zeros", "true"]
    assert "optim.keep_zeros: expected false with optim.layers linear_probe" in error("train", *linear_probe)
    with pytest.raises(
        ValueError, match=r"^optim\.keep_zeros: no weight is zero at the start; --pretrained takes a run"
    ):
        keep_zeros(LogitsModel(build_backbone("mobilenet_0.1"), 3))
