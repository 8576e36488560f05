"""Published networks as models of embeddings: the face network, FaceNet's files, any ONNX file."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.common.cli.main import main
from tasks.common.runs.load import load_model
from tasks.common.runs.pretrained import use_pretrained
from tasks.embedding.cli import COMMANDS
from tasks.embedding.config import EmbeddingConfig
from tasks.embedding.inception_resnet import InceptionResnetV1
from tasks.embedding.task import EmbeddingTask
from tests.backbone.test_faceres import forward, random_arrays, save
from tests.distill.test_teachers import random_images, write_onnx
from tests.tasks.common.test_pretrained import save_run
from tests.tasks.conftest import build_config


def config_of(pretrained: Path) -> EmbeddingConfig:
    return dataclasses.replace(EmbeddingConfig(), pretrained=str(pretrained))


def load(config: EmbeddingConfig) -> Any:
    return load_model(EmbeddingTask, config, None)


def run(*words: str) -> int:
    return main("embedding", words, COMMANDS)


def test_the_identity_of_the_face_network(rng: np.random.Generator, tmp_path: Path) -> None:
    arrays = random_arrays(rng)
    task, model = load(config_of(save(tmp_path / "net.npz", arrays)))
    assert (task.config.data.input_size, task.config.data.face_crop, task.config.embedding_dim) == (224, "box", None)
    images = random_images(64)
    with torch.inference_mode():
        identity, *_ = forward(arrays, images)
        expected = identity / identity.norm(dim=1, keepdim=True)
        torch.testing.assert_close(model.eval()(images).embeddings, expected, atol=1e-5, rtol=1e-4)


def test_facenets_file_is_a_model(tmp_path: Path) -> None:
    """A state in facenet-pytorch's layout, with its classifier."""
    network = InceptionResnetV1(num_classes=8631).eval()
    torch.save(network.state_dict(), tmp_path / "vggface2.pt")
    task, model = load(config_of(tmp_path / "vggface2.pt"))
    assert (task.config.data.input_size, task.config.network) == (160, "inception_resnet_v1")
    images = random_images(160)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images).embeddings, network(images))

    training = EmbeddingTask(config_of(tmp_path / "vggface2.pt"), {"identities": ["anna", "bela"]})
    trained: Any = use_pretrained(training)[0].build_model()
    assert trained.head.prototypes.shape == (2, 512)
    assert torch.equal(trained.backbone.last_linear.weight, network.last_linear.weight)


def test_facenet_refuses_small_inputs_and_other_weights(
    tmp_path: Path, error_line_of: Callable[..., str], generated_roots: Any
) -> None:
    network = ("train", "--network", "inception_resnet_v1", "--data.root", str(generated_roots("embedding")))
    line = error_line_of(run, *network, "--data.input_size", "64", "--run_dir", str(tmp_path / "run"))
    assert "data.input_size: expected 75 or more with network inception_resnet_v1, got 64" in line

    config = build_config(EmbeddingConfig, backbone={"name": "mobilenet_0.25"}, data={"input_size": 96})
    save_run(tmp_path, EmbeddingTask(config, {"identities": ["anna"]}))
    line = error_line_of(run, *network, "--pretrained", str(tmp_path), "--run_dir", str(tmp_path / "run"))
    assert f"{tmp_path}: has no conv2d_1a.conv.weight, which network inception_resnet_v1 needs" in line
    assert "--pretrained facenet_vggface2, or --network mobilenet" in line


def test_an_onnx_file_is_a_model_with_its_preprocessing(tmp_path: Path) -> None:
    plain = config_of(Path(write_onnx(tmp_path / "net.onnx", ["n", 3, 40, 40], 8)))
    onnx_input = dataclasses.replace(plain.onnx_input, mean=(10, 20, 30), std=(2, 4, 8))
    task, model = load(dataclasses.replace(plain, onnx_input=onnx_input))
    assert task.config.data.input_size == 40
    images = random_images(40)
    means = (images.float().mean((2, 3)) - torch.tensor([10.0, 20, 30])) / torch.tensor([2.0, 4, 8])
    expected = torch.nn.functional.normalize(torch.cat([means, torch.zeros(2, 5)], 1))
    torch.testing.assert_close(model(images).embeddings, expected, atol=1e-5, rtol=1e-4)
    (digest,) = model.state_dict().values()
    (other,) = load(plain)[1].state_dict().values()
    assert not torch.equal(digest, other), "galleries and interrupted predictions see other preprocessing"


def test_a_runs_projection_and_prototypes_are_kept_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = build_config(EmbeddingConfig, backbone={"name": "mobilenet_0.25"}, data={"input_size": 96})
    before = save_run(tmp_path, EmbeddingTask(config, {"identities": ["anna", "bela"]}))
    task, _ = use_pretrained(EmbeddingTask(config_of(tmp_path), {"identities": ["bela", "cora"]}))
    assert "the projection (5), the prototypes of 1 of 2 identities (1)" in capsys.readouterr().err
    after: Any = task.build_model()
    assert torch.equal(after.head.projection[0].weight, before.head.projection[0].weight)
    assert torch.equal(after.head.prototypes[0], before.head.prototypes[1])


def test_bad_files_are_one_line(tmp_path: Path, error_line_of: Callable[..., str], generated_roots: Any) -> None:
    def error(*words: str) -> str:
        return error_line_of(run, *words)

    number = write_onnx(tmp_path / "one.onnx", ["n", 3, 40, 40], 1)
    assert "one.onnx: its output is (N, 1), no embedding; expected (N, D)" in error("evaluate", "--pretrained", number)
    net, root = write_onnx(tmp_path / "net.onnx", ["n", 3, 40, 40], 8), str(generated_roots("embedding"))
    line = error("train", "--pretrained", net, "--data.root", root, "--run_dir", str(tmp_path / "run"))
    assert "net.onnx is an ONNX file, which cannot be trained further; it can be a teacher: python -m distill" in line
    line = error("export", "--pretrained", net, "--out", str(tmp_path / "exported"))
    assert "net.onnx: is an ONNX file already" in line
    (tmp_path / "half.onnx").write_bytes(Path(net).read_bytes()[:40])
    half = str(tmp_path / "half.onnx")
    assert "half.onnx: not a network that ONNX Runtime can read" in error("evaluate", "--pretrained", half)
    detector = tmp_path / "text.onnx"
    detector.write_text("no network")
    line = error("evaluate", "--pretrained", net, "--data.root", root, "--data.align", str(detector))
    assert "text.onnx: not a face detector that OpenCV can read; expected YuNet's ONNX file, or the name yunet" in line


def test_verbs_of_earlier_versions_say_what_takes_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("peer", "evaluate_onnx"):
        with pytest.raises(SystemExit):
            run(verb, "net.onnx")
        assert f"got {verb}, which is now evaluate --pretrained FILE.onnx" in capsys.readouterr().err


@pytest.mark.data
def test_a_detector_is_no_embedding(shared: Path, error_line_of: Callable[..., str]) -> None:
    detector = str(shared / "weights" / "peers" / "yolox_nano.onnx")
    line = error_line_of(run, "evaluate", "--pretrained", detector)
    assert "its output is (N, 3549, 85), no embedding; expected (N, D)" in line
