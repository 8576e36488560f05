"""Teachers that are trained first: once, and again only after a change."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

import distill.training
from distill.resnet import ResNetTask
from distill.training import train_teacher
from tasks.common.runtime.distributed import SINGLE_PROCESS
from tasks.common.training.fit import InterruptedRunError
from tasks.embedding.task import EmbeddingTask

RECIPE = "data: {input_size: 80}\noptim: {epochs: 2, batch_size: 8, ema_decay: null}\n"


@pytest.fixture(autouse=True)
def _short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = tmp_path / "configs" / "distill"
    recipes.mkdir(parents=True)
    (recipes / "attributes_teacher.yaml").write_text(RECIPE)
    (recipes / "facenet_teacher.yaml").write_text(RECIPE + "network: inception_resnet_v1\nembedding_dim: null\n")
    monkeypatch.setattr(distill.training, "ROOT", tmp_path)


def test_facenet_is_trained_once(
    student: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, model, origin = train_teacher(EmbeddingTask, student("embedding"), "facenet", SINGLE_PROCESS)
    assert "no trained teacher in the cache" in capsys.readouterr().err
    assert task.config.data.input_size == 80
    assert origin == f"trained on {task.config.data.root}"
    _, again, _ = train_teacher(EmbeddingTask, student("embedding"), "facenet", SINGLE_PROCESS)
    assert "no trained teacher in the cache" not in capsys.readouterr().err
    images = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    with torch.no_grad():
        embeddings = model.eval()(images).embeddings
        assert torch.equal(again.eval()(images).embeddings, embeddings)
    assert embeddings.shape == (1, 512)

    larger = student("embedding", data={"input_size": 96})
    assert train_teacher(EmbeddingTask, larger, "facenet", SINGLE_PROCESS)[0].config.data.input_size == 96


@pytest.mark.parametrize("left", ["last.pt", "previous.pt"])
def test_resumes_after_an_interruption(
    student: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: str
) -> None:
    def fit(task: Any, run: Path, *, objective: Any, resume: bool, **_: Any) -> None:
        assert objective is None, "a teacher is trained on its own task"
        calls.append((run, resume))
        (run / left).touch()
        raise InterruptedRunError("stopped")

    calls: list[tuple[Path, bool]] = []
    monkeypatch.setattr(distill.training, "fit", fit)
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            train_teacher(EmbeddingTask, student("embedding"), "facenet", SINGLE_PROCESS)
    assert [resume for _, resume in calls] == [False, True]
    assert len({run for run, _ in calls}) == 1


def test_resnet_starts_from_random_weights_if_imagenets_cannot_be_loaded(
    student: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    task = student("attributes")
    with pytest.warns(UserWarning, match="ResNet-50 starts from random weights: cannot load ImageNet weights"):
        model = ResNetTask(task.config, task.metadata).build_model()
    images = torch.from_numpy(np.zeros((2, 3, 64, 64), np.uint8))
    assert model.eval()(images).logits.shape == (2, len(task.attribute_names))
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 25_557_032 - 2_049_000

    sample = dataclasses.replace(task.config, data=dataclasses.replace(task.config.data, root=None))
    ResNetTask(sample, task.metadata).build_model()  # no download is tried: a warning would be an error
