"""A model takes a photo in any form, predicts the same from every thread, and changes nothing that others see."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from datasets.face_detection import NoFaceError
from datasets.images.read import UnreadableImageError, read_image, write_image
from datasets.types import DetectedFace, Image, PreparedImage
from tasks.common.evaluation.evaluate import TorchPredictor
from tasks.common.inference_task import BATCH_SIZE
from tasks.common.prediction.model import Model
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tests.tasks.conftest import TinyTask


def pictures(count: int) -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (90 + 7 * number, 120, 3), np.uint8) for number in range(count)]


@pytest.fixture
def model(tiny_task: TinyTask) -> Model[Any]:
    task = tiny_task()
    return Model(task, TorchPredictor(task, task.build_model().eval()))


@pytest.fixture(scope="module")
def detector() -> Model[Any]:
    names = {"category_ids": [1, 2], "class_names": ["a", "b"]}
    config = DetectionConfig(score_threshold=0.0)
    task = DetectionTask(config, names)
    return Model(task, TorchPredictor(task, task.build_model().eval()))


def records(results: list[Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in result.to_dict().items() if key != "image"} for result in results]


def test_every_form_of_a_photo_gives_the_same(model: Model[Any], tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    write_image(path, pictures(1)[0])
    with PIL.Image.open(path) as opened:
        forms = [path, str(path), read_image(path), opened]
        results = [model(form) for form in forms]
        assert records(results) == records(model(forms))
    assert records(results) == records(results[:1]) * len(forms)
    assert [result.source.name for result in results] == [str(path), str(path), "array 0", str(path)]


def test_results_have_the_same_form_for_every_task(model: Model[Any]) -> None:
    results = model(pictures(2))
    tables = [result.to_pandas() for result in results]
    assert list(tables[0].dtypes) == list(tables[1].dtypes)
    for result in results:
        assert str(result)
        assert "\n" not in str(result)
        assert result.draw().dtype == np.uint8
        assert "<img" in result._repr_html_()


def test_threads_predict_what_one_does(model: Model[Any]) -> None:
    photos = pictures(BATCH_SIZE)
    alone = records([model(photo) for photo in photos])
    with ThreadPoolExecutor(4) as executor:
        together = records(list(executor.map(model, photos * 2)))
    assert together == alone * 2


def test_a_list_is_predicted_in_batches_like_single_photos(model: Model[Any]) -> None:
    photos = pictures(BATCH_SIZE + 3)
    for result, photo in zip(model(photos), photos, strict=True):
        np.testing.assert_array_equal(result.source.image, photo)
        (alone,), (batched,) = model(photo).predictions, result.predictions
        for name, values in vars(alone).items():
            if isinstance(values, np.ndarray) and len(values) == len(getattr(batched, name)):
                np.testing.assert_allclose(getattr(batched, name), values, atol=1e-3)


def test_predicting_changes_neither_network_nor_photo_nor_global_state(model: Any) -> None:
    def flags() -> tuple[Any, ...]:
        return torch.is_grad_enabled(), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark

    def state() -> tuple[Any, ...]:
        weights = {name: value.clone() for name, value in model.predictor.network.state_dict().items()}
        return torch.get_rng_state(), np.random.get_state()[1], weights

    photo = pictures(1)[0]
    flags_before, before, photo_before = flags(), state(), photo.copy()
    model(photo).draw()
    assert flags() == flags_before
    torch.testing.assert_close(state(), before, rtol=0, atol=0)
    np.testing.assert_array_equal(photo, photo_before)
    assert not model.predictor.network.training


def test_stream_gives_the_images_of_a_folder_in_order(detector: Model[Any], tmp_path: Path) -> None:
    for number, picture in enumerate(pictures(3)):
        write_image(tmp_path / f"{number}.png", picture)
    (tmp_path / "1.png").write_bytes(b"not an image")
    results = []
    with pytest.warns(UserWarning, match=r"1\.png"):
        results += detector.stream(tmp_path)
    assert [Path(result.source.name).name for result in results] == ["0.png", "2.png"]
    assert records(results) == records(detector([tmp_path / "0.png", tmp_path / "2.png"]))


def test_threshold_is_that_of_one_call(detector: Model[Any]) -> None:
    photo = pictures(1)[0]
    every, some, none = (detector(photo, threshold=threshold).predictions[0] for threshold in (0, 0.5, 1))
    assert len(every) > len(some) >= len(none) == 0
    assert (every.scores >= 0.5).sum() == len(some)
    assert str(detector(photo, threshold=1)) == "nothing found with a score of 1 or more"
    own = detector.task.config.threshold
    assert records([detector(photo)]) == records([detector(photo, threshold=own)])
    for wrong in (2, "best"):
        with pytest.raises(ValueError, match=rf"threshold: expected .* got '?{wrong}"):
            detector(photo, threshold=wrong)
    with pytest.raises(ValueError, match=r"threshold: f1 is looked up in a run.s thresholds\.csv, and there is no run"):
        detector(photo, threshold="f1")


@pytest.mark.parametrize("tiny_task", ["attributes/sample", "embedding/sample"], indirect=True)
def test_photo_without_a_face_has_an_empty_result(model: Model[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(image: Image) -> list[PreparedImage]:
        if image.max() == 0:
            raise NoFaceError("no face found")
        face = DetectedFace((1.0, 2.0, 30.0, 40.0), np.zeros((5, 2)), 0.9)
        return [PreparedImage(image[:size, :size], face)] * 2

    size = model.task.config.data.input_size
    monkeypatch.setattr(model.task, "prepare", prepare)
    monkeypatch.setattr(model.task, "face_crop", SimpleNamespace(detector="stands for one"))
    faces, nothing = model([np.full((size, size, 3), level, np.uint8) for level in (90, 0)])
    assert str(faces).startswith("2 faces")
    assert str(nothing) == "no face found"
    assert [len(result.to_dict()["faces"]) for result in (faces, nothing)] == [2, 0]
    assert list(nothing.to_pandas().dtypes.items()) == list(faces.to_pandas().dtypes.items())
    assert faces.to_pandas()[["face_x0", "face_y1"]].to_numpy().tolist() == [[1.0, 40.0]] * 2
    assert [crop.shape for crop in faces.crops()] == [(38, 29, 3)] * 2
    assert nothing.crops() == []


def test_upright_pixels_of_pil_images_with_orientation_or_palette(detector: Model[Any], tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(pictures(1)[0])
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.quantize(16).save(tmp_path / "palette.png")
    picture.convert("L").save(tmp_path / "grey.png")
    for path in sorted(tmp_path.iterdir()):
        with PIL.Image.open(path) as opened:
            np.testing.assert_array_equal(detector(opened).source.image, read_image(path), err_msg=path.name)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"array 0: expected .* got float32 \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"array 0: expected .* got uint8 \(4, 4\)"),
        (np.zeros((0, 5, 3), np.uint8), r"array 0: expected .* got uint8 \(0, 5, 3\)"),
        (None, r"expected a path, a URL, a PIL image or an RGB array .* got NoneType"),
        (PIL.Image.new("I;16", (4, 4)), "image 0: a PIL image of mode I;16; expected 8 bits"),
        ("missing.jpg", "missing.jpg: No such file"),
        (".", r"\.: a folder; expected an image"),
        ("notes.txt", r"notes\.txt: not an image"),
    ],
)
def test_what_is_no_photo_is_refused(
    detector: Model[Any], photo: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=message) as raised:
        detector(photo)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, UnreadableImageError) or not isinstance(photo, str) or photo == "."


def test_damaged_pil_image_is_refused(detector: Model[Any], tmp_path: Path) -> None:
    PIL.Image.fromarray(pictures(1)[0]).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with (
        PIL.Image.open(tmp_path / "half.jpg") as opened,
        pytest.raises(UnreadableImageError, match=r"half\.jpg: image file is truncated"),
    ):
        detector(opened)
