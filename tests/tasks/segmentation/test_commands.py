"""The commands from training to prediction on generated scenes; masks and pictures at the photo's own size."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from faster_coco_eval.core import mask as coco_mask
from torch.nn.functional import interpolate

from datasets.files import CACHE_VARIABLE
from datasets.images.read import write_image
from datasets.segmentation.masks import resize_mask
from datasets.types import VOID, Mask
from tasks.api import load
from tasks.common.cli.main import main
from tasks.common.deploy.exported import ExportedModel
from tasks.common.deploy.onnx_file import write_onnx
from tasks.common.deploy.quantization import quantize
from tasks.common.weights import TaskWeights
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.draw import draw_masks
from tasks.segmentation.inference import SegmentationInference, mask_of_logits
from tasks.segmentation.model import SegmentationOutputs
from tasks.segmentation.task import SegmentationTask
from tasks.segmentation.transfer import load_heads

SMALL = ("--backbone.name", "mobilenet_0.25", "--data.input_size", "96", "--loop.num_workers", "0")


def run(*arguments: str) -> int:
    return main("segmentation", arguments)


@pytest.fixture(scope="module")
def trained(generated_roots: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        root = str(generated_roots("segmentation"))
        more = (
            "--head",
            "lraspp",
            "--auxiliary_weight",
            "0.4",
            "--class_weight_exponent",
            "0.5",
            "--optim.epochs",
            "1",
        )
        assert run("train", "--data.root", root, *SMALL, *more, "--run_dir", str(folder / "run")) == 0
        yield folder / "run"


def test_train_evaluate_predict(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = json.loads((trained / "metadata.json").read_text())
    assert metadata["class_names"] == ["background", "balloon", "boat", "car", "house", "tree"]
    assert sum(metadata["num_pixels"]) == 24 * 240 * 320

    capsys.readouterr()
    assert run("evaluate", "--run", str(trained), "--json", "--out", str(tmp_path / "scores")) == 0
    scores = json.loads(capsys.readouterr().out)
    with (tmp_path / "scores" / "per_class.csv").open() as file:
        ious = [float(row["IoU"]) for row in csv.DictReader(file)]
    assert scores["mIoU"] == pytest.approx(np.mean(ious), abs=1e-5)
    assert {path.name for path in (tmp_path / "scores").iterdir()} >= {"failure_cases.png", "predictions.png"}

    photo = tmp_path / "photo.jpg"
    write_image(photo, np.random.default_rng(0).integers(0, 256, (150, 333, 3), np.uint8))
    assert run("predict", "--run", str(trained), str(photo), "--out", str(tmp_path / "seen")) == 0
    record = json.loads((tmp_path / "seen" / "predictions.jsonl").read_text())
    masks = {one["class_id"]: coco_mask.decode(one["mask"]) for one in record["classes"]}
    assert sum(masks.values()).tolist() == np.ones((150, 333)).tolist()  # each pixel has one class
    assert sum(one["fraction"] for one in record["classes"]) == pytest.approx(1, abs=1e-3)

    result = load(trained)(photo)
    (mask,) = result.predictions
    assert mask.class_ids.shape == (150, 333)
    assert all((masks[class_id] == (mask.class_ids == class_id)).all() for class_id in masks)
    assert list(result.to_pandas()["fraction"]) == pytest.approx(
        [one["fraction"] for one in record["classes"]], abs=1e-4
    )
    assert result.draw().shape[1] >= 333


class Convolutions(torch.nn.Module):
    """Ends in a classifier of pixels, as DeepLab's heads do."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 8, 8, 16, 16)
        pairs = [(torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.ReLU()) for a, b in pairwise(channels)]
        self.layers = torch.nn.Sequential(*chain.from_iterable(pairs), torch.nn.Conv2d(16, 3, 1))

    def forward(self, images: torch.Tensor) -> SegmentationOutputs:
        return SegmentationOutputs(self.layers(images / 127.5 - 1))


def test_logits_stay_in_floats_in_8_bits(tmp_path: Path, rng: np.random.Generator) -> None:
    floats, bits = tmp_path / "floats.onnx", tmp_path / "bits.onnx"
    metadata = SegmentationTask.with_num_classes(SegmentationConfig(), 4).metadata
    write_onnx(Convolutions(), 32, floats, "segmentation", metadata)
    images = list(rng.integers(0, 256, (4, 32, 32, 3), np.uint8))
    quantize(floats, bits, images)
    expected, actual = (ExportedModel(path)(images)["logits"] for path in (floats, bits))
    np.testing.assert_allclose(actual, expected, atol=0.1 * float(np.ptp(expected)))
    assert (actual != expected).any()
    assert len(np.unique(actual)) > 256  # in 8 bits there are no more


def test_classes_are_the_highest_of_interpolated_logits(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(5, 9, 13)).astype(np.float32)
    expected = interpolate(torch.from_numpy(logits)[None], (70, 51), mode="bilinear", align_corners=False)[0]
    resized = resize_mask(mask_of_logits(logits), (70, 51))
    assert (resized.class_ids == expected.argmax(0).numpy()).mean() > 0.999  # but for ties


def test_the_exported_class_map_is_that_of_the_networks_input() -> None:
    import onnxruntime
    from onnx import helper

    task = SegmentationTask.with_num_classes(SegmentationConfig(), 4)
    graph = task.postprocessing(torch.nn.Identity())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    logits = np.random.default_rng(0).normal(size=(2, 4, 129, 129)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    class_ids, class_logits = session.run(None, {"logits": logits})
    expected = interpolate(torch.from_numpy(logits), (512, 512), mode="bilinear", align_corners=False).argmax(1)
    assert class_ids.dtype == np.uint8
    assert (class_ids == expected.numpy()).mean() > 0.999
    np.testing.assert_array_equal(class_logits, logits)


def test_another_models_classes_are_kept_by_name() -> None:
    names = ["road", "sky", "car"]
    config = SegmentationConfig()
    task = SegmentationTask(config, {"class_names": names})
    given_task = SegmentationTask(config, {"class_names": ["car", "tree", "road"]})
    given = given_task.build_model()
    weights = TaskWeights(
        given.state_dict(), None, "given", task="segmentation", metadata=given_task.metadata, settings={}
    )
    network = task.build_model()
    before = network.decode_head.classifier.weight.clone()
    kept = load_heads(network, weights, names)
    assert list(kept) == ["the head with 2 of 3 classes"]
    after, source = network.decode_head.classifier.weight, given.decode_head.classifier.weight
    assert torch.equal(after[0], source[2])
    assert torch.equal(after[2], source[0])
    assert torch.equal(after[1], before[1])
    for name, tensor in network.decode_head.aspp.state_dict().items():
        assert torch.equal(tensor, given.decode_head.aspp.state_dict()[name])


def test_pictures_show_the_classes_with_a_legend() -> None:
    image = np.full((400, 500, 3), 100, np.uint8)
    ids = np.zeros((400, 500), np.uint8)
    ids[:, 100:200], ids[:, 200:300] = 1, VOID
    alone = draw_masks(image, Mask(ids), None, ["background", "car", "tree"])
    np.testing.assert_array_equal(alone[:400, :100], image[:, :100])
    assert len(np.unique(alone[:400, :300].reshape(-1, 3), axis=0)) == 3
    assert len(alone) > 400  # the legend
    pair = draw_masks(image, Mask(ids), Mask(ids), ["background", "car", "tree"])
    assert pair.shape[1] > 2 * 500
    assert (image == 100).all()


def test_the_worst_image_says_what_is_wrong() -> None:
    inference = SegmentationInference(SegmentationConfig(), {"class_names": ["sky", "road"]})
    truth = np.zeros((4, 5), np.uint8)
    truth[0] = VOID
    predicted = truth.copy()
    predicted[1, :3] = 1
    case = inference.failure_case(Mask(predicted), Mask(truth))
    assert case is not None
    assert case.confidence == pytest.approx(3 / 15)
    assert case.what == "wrong, most of them road: is sky"
    assert inference.failure_case(Mask(truth % VOID), Mask(truth)) is None


def test_errors_are_one_line(generated_roots: Any, tmp_path: Path, error_line_of: Callable[..., str]) -> None:
    root = tmp_path / "data"
    shutil.copytree(generated_roots("segmentation"), root)
    options = ("--data.root", str(root), *SMALL, "--run_dir", str(tmp_path / "run"))
    assert "window: expected a multiple of 64" in error_line_of(run, "train", *options, "--window", "96")
    assert "all or gradual" in error_line_of(run, "train", *options, "--optim.layers", "linear_probe")
    masks = sorted((root / "masks" / "train").iterdir())
    for values, what in (
        (np.zeros((240, 320), np.uint16), "a mask of 16 bits or more; expected a grey or palette PNG of 8 bits"),
        (np.zeros((10, 12), np.uint8), f"a mask of 12 x 10 pixels, but {root}/images/train/000000.jpg has 320 x 240"),
    ):
        for mask in masks:
            PIL.Image.fromarray(values).save(mask)
        assert f"{masks[0]}: {what}" in error_line_of(run, "train", *options)
    assert not (tmp_path / "run").exists()
