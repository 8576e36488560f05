"""Teachers that are trained first: once, and again only where something has changed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

import distill.trained
from distill.facenet import FaceNetTask
from distill.resnet import ResNetTask
from distill.trained import train_first
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.common.training.fit import InterruptedRunError

RECIPE = "data: {input_size: 80}\noptim: {epochs: 2, batch_size: 8, ema_decay: null}\n"


@pytest.fixture(autouse=True)
def _short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = tmp_path / "configs" / "distill"
    recipes.mkdir(parents=True)
    for name in ("facenet", "attributes"):
        (recipes / f"{name}_teacher.yaml").write_text(RECIPE)
    monkeypatch.setattr(distill.trained, "ROOT", tmp_path)


def test_facenet_is_trained_once(
    student: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, model, origin = train_first(FaceNetTask, student("embedding"), "facenet", SINGLE_PROCESS)
    assert "there is no teacher yet" in capsys.readouterr().err
    assert task.config.data.input_size == 80
    assert origin == f"trained on {task.config.data.root} first"
    _, again, _ = train_first(FaceNetTask, student("embedding"), "facenet", SINGLE_PROCESS)
    assert "there is no teacher yet" not in capsys.readouterr().err
    images = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    with torch.no_grad():
        embeddings = model.eval()(images).embeddings
        assert torch.equal(again.eval()(images).embeddings, embeddings)
    assert embeddings.shape == (1, 512)

    larger = student("embedding", data={"input_size": 96})
    assert train_first(FaceNetTask, larger, "facenet", SINGLE_PROCESS)[0].config.data.input_size == 96


@pytest.mark.parametrize("left", ["last.pt", "previous.pt"])
def test_goes_on_after_an_interruption(
    student: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: str
) -> None:
    def fit(task: Any, run: Path, *, objective: Any, resume: bool, world: World) -> None:
        assert objective is None, "a teacher learns its own task"
        asked.append((run, resume))
        (run / left).touch()
        raise InterruptedRunError("stopped")

    asked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(distill.trained, "fit", fit)
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            train_first(FaceNetTask, student("embedding"), "facenet", SINGLE_PROCESS)
    assert [resume for _, resume in asked] == [False, True]
    assert len({run for run, _ in asked}) == 1


def test_resnet_starts_from_random_weights_where_imagenets_cannot_be_had(
    student: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    task = student("attributes")
    with pytest.warns(UserWarning, match="ResNet-50 starts from random weights: ImageNet's cannot be had"):
        model = ResNetTask(task.config, task.metadata).build_model()
    images = torch.from_numpy(np.zeros((2, 3, 64, 64), np.uint8))
    assert model.eval()(images).logits.shape == (2, len(task.attribute_names))
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 25_557_032 - 2_049_000

    drawn = dataclasses.replace(task.config, data=dataclasses.replace(task.config.data, root=None))
    ResNetTask(drawn, task.metadata).build_model()  # asks no network: a warning would be an error
