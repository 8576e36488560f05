"""The commands: train, evaluate, index and search; published and external networks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score

from backbone.build import build_backbone
from datasets.faces import open_faces
from datasets.files import CACHE_VARIABLE
from datasets.pillow_resizing import center_crop
from tasks.classification.config import ClassificationConfig
from tasks.classification.task import ClassificationTask
from tasks.common import inference_task
from tasks.common.cli.main import main
from tasks.common.evaluation.evaluate import TorchPredictor
from tasks.embedding.cli import COMMANDS
from tasks.embedding.gallery import Gallery
from tests.tasks.common.test_pretrained import save_run
from tests.tasks.conftest import build_config
from tests.yunet import picture, write_detector


@pytest.fixture
def settings(generated_roots: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    root = str(generated_roots("embedding"))
    small = ("--data.root", root, "--data.input_size", "64", "--loop.num_workers", "0")
    return [*small, "--backbone.name", "mobilenet_0.25"]


PROBE = (
    *("--optim.layers", "linear_probe", "--optim.batch_size", "8", "--optim.weight_decay", "0.001"),
    *("--margin", "0", "--embedding_dim", "8"),
)


def run(*arguments: str) -> int:
    return main("embedding", arguments, COMMANDS)


def test_train_evaluate_index_search_remove(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    capsys.readouterr()
    lfw = str(Path(settings[1]) / "val")  # the generated validation photos are in LFW's layout
    assert run("evaluate", "--run", "run", "--data.lfw", lfw, "--json", "--out", "scores") == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["lfw_accuracy"] <= 1
    assert scores["tar_at_far_1e-4"] is None
    written = {path.name for path in Path("scores").iterdir()}
    assert written >= {"metrics.json", "roc.png", "rates.csv", "embeddings.png", "hardest_pairs.csv", "predictions.png"}

    shutil.copytree(Path(settings[1]) / "train", "photos")
    identities = sorted(Path("photos").iterdir())
    assert run("index", "--run", "run", *map(str, identities[:8]), "--out", "g.faiss") == 0
    assert "16 photos new or changed; g.faiss (flat) has 16" in capsys.readouterr().err
    assert run("index", "--run", "run", "photos", "--out", "g.faiss") == 0
    assert "8 photos new or changed; g.faiss (flat) has 24" in capsys.readouterr().err
    query = sorted(identities[3].iterdir())[0]
    assert (
        run("search", "--run", "run", "--gallery", "g.faiss", str(query), "--num_matches", "4", "--out", "found") == 0
    )
    record = json.loads(Path("found/matches.jsonl").read_text())
    assert record["image"] == record["matches"][0]["path"] == str(tmp_path / query)
    second = record["matches"][1]
    printed = capsys.readouterr().out
    assert printed == f"{tmp_path / query}: {second['similarity']:.3f} {second['path']}\n", "not the query itself"
    similarities = [match["similarity"] for match in record["matches"]]
    assert similarities[0] == pytest.approx(1, abs=1e-4)
    assert similarities == sorted(similarities, reverse=True)
    sheet = cv2.imread("found/matches.png")
    assert sheet is not None
    assert sheet.shape[1] > 3 * sheet.shape[0]  # a row with the query and its matches, itself left out

    cv2.imwrite(str(query), np.zeros((64, 64, 3), np.uint8))
    capsys.readouterr()
    assert run("index", "--run", "run", "photos", "--out", "g.faiss") == 0
    assert "1 photo new or changed; g.faiss (flat) has 24" in capsys.readouterr().err
    shutil.rmtree(identities[3])
    assert run("remove", str(identities[3]), "--gallery", "g.faiss") == 0
    assert "removed 2 photos; g.faiss has 22" in capsys.readouterr().err
    assert len(Gallery.read(Path("g.faiss"))) == 22

    # embeddings of another network, or at another input size, are not comparable
    other = ("--run", "run", "--data.input_size", "96", "--gallery", "g.faiss", str(identities[0]))
    assert run("search", *other) == 1
    assert "g.faiss: built with another network, onnx_input, data.input_size" in capsys.readouterr().err


def test_gallery_of_an_exported_network(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    assert run("export", "--run", "run", "--out", "floats") == 0
    photos = str(Path(settings[1]) / "train")
    assert run("index", "--run", "floats", photos, "--out", "g.faiss") == 0
    capsys.readouterr()
    assert run("search", "--run", "floats", "--gallery", "g.faiss", photos, "--out", "found") == 0
    records = [json.loads(line) for line in Path("found/matches.jsonl").read_text().splitlines()]
    assert len(records) == 24
    assert all(record["image"] == record["matches"][0]["path"] for record in records)
    assert run("search", "--run", "run", "--gallery", "g.faiss", photos) == 1
    assert "g.faiss: built with another network" in capsys.readouterr().err


def test_validation_on_all_pairs_of_unseen_identities_by_default(
    settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *settings, *PROBE, "--loss", "arcface", "--run_dir", "run") == 0
    scores = json.loads(Path("run/metrics.json").read_text())
    assert {"auc", "nn_accuracy", "chance_nn_accuracy"} <= set(scores)
    assert "lfw_accuracy" not in scores
    assert scores["num_images"] == 24


@pytest.mark.filterwarnings("default::UserWarning")
def test_unreadable_photos_leave_the_gallery_unchanged(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    shutil.copytree(Path(settings[1]) / "train", "photos")
    assert run("index", "--run", "run", "photos", "--out", "g.faiss") == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("g.*")}
    assert len(before) == 3
    Path("photos/broken.jpg").write_text("not an image")
    capsys.readouterr()
    assert run("index", "--run", "run", "photos", "--out", "g.faiss") == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.glob("g.*")} == before
    assert run("index", "--run", "run", "photos", "--out", "gallery.txt") == 1
    assert "--out: expected a file name ending in .faiss" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::UserWarning")
def test_faces_are_aligned_and_photos_without_a_face_left_out(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align = ("--data.align", write_detector(tmp_path / "yunet.onnx"))
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    for name, image in {
        "far": picture(160, 160, (64, 64)),
        "near": picture(1280, 1280, (704, 448), side=16),
        "wall": picture(160, 160),
    }.items():
        cv2.imwrite(f"{name}.png", image[..., ::-1])
    capsys.readouterr()
    assert run("index", "--run", "run", *align, "far.png", "--out", "g.faiss") == 0
    assert run("search", "--run", "run", *align, "near.png", "--gallery", "g.faiss", "--out", "found") == 0
    record = json.loads(Path("found/matches.jsonl").read_text())
    assert [match["path"] for match in record["matches"]] == [str(tmp_path / "far.png")]
    capsys.readouterr()
    assert run("search", "--run", "run", "near.png", "--gallery", "g.faiss") == 1  # not aligned: not comparable
    assert "data.align, data.face_crop or data.face_scale" in capsys.readouterr().err
    assert run("predict", "--run", "run", *align, "far.png", "wall.png", "--out", "seen") == 0
    assert "warning: 1 image without a prediction:\n  wall.png: no face found\n" in capsys.readouterr().err
    assert len(Path("seen/predictions.jsonl").read_text().splitlines()) == 1


@pytest.mark.filterwarnings("default::UserWarning")
def test_every_face_of_a_photo_is_found_and_photos_without_one_are_left_out(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of three photos: no limit holds for photos without a face, unless none is left."""
    align = ("--data.align", write_detector(tmp_path / "yunet.onnx"))
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    photos = {"group": picture(160, 240, (40, 40), (120, 80)), "wall": picture(160, 160), "floor": picture(96, 160)}
    for name, image in photos.items():
        cv2.imwrite(f"{name}.png", image[..., ::-1])
    capsys.readouterr()
    assert run("index", "--run", "run", *align, *(f"{name}.png" for name in photos), "--out", "g.faiss") == 0
    lines = capsys.readouterr().err
    assert "2 photos of 3 left out: no face found" in lines
    assert "3 photos new or changed, 2 faces in them; g.faiss (flat) has 2" in lines
    assert f"warning: {tmp_path / 'wall.png'}: no face found; the image is left out" in lines
    assert run("search", "--run", "run", *align, "group.png", "--gallery", "g.faiss", "--out", "found") == 0
    matches = [json.loads(line) for line in Path("found/matches.jsonl").read_text().splitlines()]
    assert run("predict", "--run", "run", *align, "group.png", "wall.png", "--out", "seen") == 0
    faces = json.loads(Path("seen/predictions.jsonl").read_text())["faces"]
    assert len(faces) == len(matches) == 2
    middles = set()
    for face, match in zip(faces, matches, strict=True):
        assert face["face_box_xyxy"] == match["face_box_xyxy"]
        assert len(face["embedding"]) == 8
        assert match["matches"][0]["similarity"] == pytest.approx(1, abs=1e-4)
        x0, y0, x1, y1 = face["face_box_xyxy"]
        middles.add((round((x0 + x1) / 2), round((y0 + y1) / 2)))
    assert middles == {(40, 40), (120, 80)}
    for which, num_faces in (("largest", 1), ("one", 0)):
        status = run("predict", "--run", "run", *align, "--faces", which, "group.png", "--out", which)
        assert status == (0 if num_faces else 1)
        if num_faces:
            assert len(json.loads(Path(which, "predictions.jsonl").read_text())["faces"]) == 1
    assert "group.png: 2 faces found, expected exactly one" in capsys.readouterr().err
    assert run("index", "--run", "run", *align, "wall.png", "floor.png", "--out", "none.faiss") == 1
    assert "error: none of the 2 images is left: 2 are empty; the last one: " in capsys.readouterr().err
    assert not Path("none.faiss").exists()


def test_the_many_faces_of_a_photo_do_not_fill_the_memory(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    align, sizes = ("--data.align", write_detector(Path("yunet.onnx"))), []
    predict = TorchPredictor.__call__

    def counted(self: Any, pixels: Any) -> Any:
        sizes.append(len(pixels))
        return predict(self, pixels)

    monkeypatch.setattr(TorchPredictor, "__call__", counted)
    monkeypatch.setattr(inference_task, "BATCH_SIZE", 2)
    assert run("train", *settings, *PROBE, "--run_dir", "run") == 0
    cv2.imwrite("group.png", picture(160, 240, (40, 40), (120, 80), (200, 40))[..., ::-1])
    capsys.readouterr()
    assert run("index", "--run", "run", *align, "group.png", "--out", "g.faiss") == 0
    assert "1 photo new or changed, 3 faces in them" in capsys.readouterr().err
    assert sizes[-2:] == [2, 1]


def test_published_weights_need_no_training(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Their pooled features are the embeddings; here the weights of a classifier's run."""
    classifier = build_config(ClassificationConfig, backbone={"name": "mobilenet_0.25"}, data={"input_size": 64})
    Path("run").mkdir()
    save_run(Path("run"), ClassificationTask.with_num_classes(classifier, 2))
    capsys.readouterr()
    assert run("evaluate", *settings, "--pretrained", "run", "--json", "--out", "scores") == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    backbone = build_backbone(config["backbone"]["name"], config["backbone"]["conventions"])
    content = torch.load("run/best.pt", weights_only=True)["model"]
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in content.items() if k.startswith("backbone.")})
    photos = open_faces(Path(settings[1]) / "val")["train"]
    pixels = np.stack([center_crop(photos[row].image, 64, 1) for row in range(len(photos))])
    with torch.inference_mode():
        features = backbone.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    first, second = np.triu_indices(len(photos), 1)
    same = photos.identity_ids[first] == photos.identity_ids[second]
    expected = roc_auc_score(same, (features @ features.T)[first, second])
    assert json.loads(capsys.readouterr().out)["auc"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.filterwarnings("default::UserWarning")
def test_identities_of_lfw_are_not_trained_on(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, lfw = tmp_path / "faces", Path(settings[1]) / "val"
    shutil.copytree(Path(settings[1]) / "train", root)
    shutil.copytree(lfw / "person_1000", root / "person_1000")
    arguments = ("--data.lfw", str(lfw), *PROBE, "--run_dir", "run")
    assert run("train", "--data.root", str(root), *settings[2:], *arguments) == 0
    assert f"1 identities of {lfw} are also in {root}; they are not trained on" in capsys.readouterr().err
    identities = json.loads(Path("run/metadata.json").read_text())["identities"]
    assert len(identities) == 12
    assert "person_1000" not in identities


def test_errors_are_one_line(settings: list[str], tmp_path: Path, error_line_of: Callable[..., str]) -> None:
    def error(*more: str) -> str:
        line = error_line_of(run, *more)
        assert not (tmp_path / "run").exists()
        return line

    indivisible = error("train", *settings, "--photos_per_identity", "5")
    assert "photos_per_identity: expected a divisor of optim.batch_size (16) and at most half of it" in indivisible
    unsupported = error("train", *settings, *PROBE, "--loss", "triplet")
    assert "loss: expected cosface or arcface with optim.layers linear_probe, got 'triplet'" in unsupported
    assert "fars: expected numbers over 0 and under 1" in error("train", *settings, "--fars", "[2]")
    assert "pairs.txt: no such file" in error("train", *settings, "--data.lfw", str(tmp_path))
    unsplit = str(Path(settings[1]) / "train")
    assert "there are no images for train" in error(
        "train", *settings, "--data.root", unsplit, "--data.val_fraction", "1"
    )
    assert "net.onnx: no such file" in error("evaluate", "--pretrained", "net.onnx", *settings[:-2])
    (tmp_path / "net.onnx").write_text("no network")
    assert "not a network that ONNX Runtime can read" in error("evaluate", "--pretrained", "net.onnx", *settings[:-2])


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "part", "auc", "nn_accuracy"),
    [("identities", "[0,0,1,1]", 0.980, 0.983), ("lfw", "[0.26,0.3,0.74,0.78]", 0.820, 0.920)],
)
def test_external_model_scores_as_its_readme_states(
    shared: Path,
    folder: str,
    part: str,
    auc: float,
    nn_accuracy: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = str(shared / "weights" / "peers" / "mobilefacenet.onnx")
    data = (
        "--data.root",
        str(shared / "data" / "faces" / folder),
        "--data.val_fraction",
        "1",
        "--data.face_part",
        part,
    )
    out = ("--json", "--out", str(tmp_path / "scores"), "--loop.num_workers", "0")
    assert run("evaluate", "--pretrained", network, *data, *out) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["auc"] == pytest.approx(auc, abs=0.002)
    assert scores["nn_accuracy"] == pytest.approx(nn_accuracy, abs=0.006)
    assert run("evaluate", "--pretrained", network, *data, *out[:2], "wrong", "--data.input_size", "128") == 1
    assert "not 128 x 128 pixels" in capsys.readouterr().err
