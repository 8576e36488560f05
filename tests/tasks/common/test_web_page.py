"""`export --format web`: a page that predicts in headless Chromium what predictor.py does, and uploads nothing."""

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import avg_pool2d

from datasets.types import Mask
from tasks.common.cli.main import main
from tasks.common.deploy import predictor, web_page
from tasks.common.deploy.onnx_file import add_postprocessing, write_onnx
from tasks.common.deploy.web_page import FILES, PACKAGE, read_runtime, write_page
from tasks.common.runs.load import load_model
from tasks.common.settings import replace_settings
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tasks.segmentation.config import SegmentationConfig
from tasks.segmentation.draw import draw_masks
from tasks.segmentation.model import SegmentationOutputs
from tasks.segmentation.task import SegmentationTask
from tests.tasks.common.browser import CHROMIUM, Page, open_browser, serve
from tests.yunet import write_detector

PHOTOS = ("000000000139.jpg", "000000000632.jpg", "000000000724.jpg")  # of COCO: a room, a bedroom, a road sign
STATUS = "(document.getElementById('status')?.textContent ?? '')"


@pytest.fixture(scope="module")
def runtime() -> dict[str, bytes]:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    try:
        return read_runtime()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which stand-ins for onnxruntime-web's files are installed."""
    folder = tmp_path / "node_modules" / PACKAGE / "dist"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"content of {name}")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="module")
def page(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def show_photo(page: Page, photo: Path) -> Any:
    """The record of a photo that the page's visitor chooses."""
    page.evaluate("document.getElementById('status').textContent = ''")
    page.choose_file("#file", photo)
    status = page.wait_for(STATUS)
    assert re.fullmatch(r"\d+ ms for a photo of \d+ x \d+", status), status
    return json.loads(page.evaluate("document.getElementById('found').dataset.record"))


def read_canvas(page: Page) -> NDArray[np.uint8]:
    """The picture on the page, RGB."""
    drawn = page.evaluate("document.getElementById('picture').toDataURL()").partition(",")[2]
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(drawn))).convert("RGB"))


def write_folder(task: Any, network: nn.Module, folder: Path, runtime: dict[str, bytes]) -> None:
    """What `export` writes, without scores."""
    folder.mkdir()
    write_onnx(network, task.config.data.input_size, folder / "model.onnx", task.name, task.metadata)
    add_postprocessing(folder / "model.onnx", task.postprocessing(network), task)
    task.write_extra_files(folder)
    write_page(folder, task.predictor_settings(), runtime)


def open_page(page: Page, url: str) -> None:
    page.call("Page.navigate", url=url)
    page.wait_for(f"/Ready|Error/.test({STATUS})")
    assert page.evaluate(STATUS) == "Ready"


@pytest.mark.data
def test_page_finds_what_predictor_finds(runtime: dict[str, bytes], page: Page, shared: Path, tmp_path: Path) -> None:
    """Pixels differ by one level at most, which moves a box by a pixel or two and a score by a hundredth or two."""
    weights = shared / "weights" / "tasks" / "ssd_mobilenet_v2_coco_2018_03_29.pb"
    task, network = load_model(DetectionTask, DetectionConfig(pretrained=str(weights)), None)
    folder = tmp_path / "page"
    write_folder(task, network, folder, runtime)
    model = predictor.load(folder)
    with serve(folder) as (url, requests):
        open_page(page, url)
        num_requests = len(requests)
        for name in PHOTOS:
            photo = shared / "data" / "coco128" / "val2017" / name
            found, expected = show_photo(page, photo)["detections"], model(photo)["detections"]
            assert len(expected) > 0
            for these, others in ((expected, found), (found, expected)):
                for one in these:
                    if one["score"] > model.settings["threshold"] + 0.03:  # others may be on its other side
                        assert any(is_same_object(one, other) for other in others), (name, one)
        pixels = read_canvas(page)
    is_drawn = np.abs(pixels.astype(int) - predictor.read_image(photo)).max(2) > 30
    x0, y0, x1, y1 = (round(value) for value in found[0]["box_xyxy"])
    assert is_drawn[y0:y1, x0].mean() > 0.8 < is_drawn[y1, x0:x1].mean()
    assert is_drawn[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4].mean() == 0
    assert len(requests) == num_requests, "a photo makes no request"
    assert all(request.startswith("GET ") for request in requests)


def is_same_object(one: Any, other: Any) -> bool:
    shift_px = np.abs(np.subtract(one["box_xyxy"], other["box_xyxy"])).max()
    return bool(one["class_name"] == other["class_name"] and shift_px < 3 and abs(one["score"] - other["score"]) < 0.03)


@pytest.mark.parametrize(
    ("tiny_task", "face_crop"),
    [
        ("classification/sample", None),
        ("geolocation/sample", None),
        ("attributes/sample", None),
        ("attributes/sample", "box"),
        ("embedding/sample", "aligned"),
    ],
    indirect=["tiny_task"],
)
def test_page_of_each_task_finds_what_predictor_finds(
    tiny_task: Any, face_crop: str | None, runtime: dict[str, bytes], page: Page, tmp_path: Path
) -> None:
    faces = {"align": write_detector(tmp_path / "yunet.onnx"), "face_crop": face_crop} if face_crop else {}
    task = tiny_task(data=faces)
    photo = np.random.default_rng(0).integers(0, 100, (140, 220, 3), np.uint8)
    for x, y in ((48, 40), (136, 64)):
        photo[y : y + 8, x : x + 8] = (255, 0, 0)  # a face, for the detector
    expected = compare_with_predictor(page, task, photo, tmp_path, runtime)
    assert len(expected["faces"]) == 2 if face_crop else "faces" not in expected


@pytest.mark.data
@pytest.mark.parametrize("tiny_task", ["embedding/sample"], indirect=True)
def test_faces_are_found_as_opencv_finds_them(
    tiny_task: Any, runtime: dict[str, bytes], page: Page, shared: Path, tmp_path: Path
) -> None:
    """In a photo that is reduced for the detector."""
    detector = shared / "weights" / "tasks" / "face_detection_yunet.onnx"
    task = tiny_task(data={"align": str(detector), "face_crop": "aligned"})
    photo = predictor.read_image(shared / "data" / "coco128" / "val2017" / "000000000885.jpg")
    expected = compare_with_predictor(page, task, cv2.resize(photo, (1000, 667)), tmp_path, runtime)
    assert len(expected["faces"]) == 3


class ColourClasses(nn.Module):
    """Classes of pixels by their colours, at a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(3, 4, 1)
        corners = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0.4, 0], [0, 0.4, 1]])
        self.classifier.weight.data[..., 0, 0] = 2 * corners
        self.classifier.bias.data = -corners.square().sum(1)  # the nearest corner has the highest logit

    def forward(self, images: torch.Tensor) -> SegmentationOutputs:
        return SegmentationOutputs(self.classifier(avg_pool2d(images / 255, 4)))


@pytest.mark.data
def test_masks_are_drawn_as_predict_draws_them(
    runtime: dict[str, bytes], page: Page, shared: Path, tmp_path: Path
) -> None:
    """At the photo's own size; pixels that the browser decodes otherwise by a level move borders by a pixel."""
    config = replace_settings(SegmentationConfig(), {"data.input_size": 128})
    task = SegmentationTask(config, {"class_names": ["background", "light", "orange", "blue"]})
    folder, photo = tmp_path / "page", shared / "data" / "coco128" / "val2017" / PHOTOS[1]
    write_folder(task, ColourClasses(), folder, runtime)
    expected = predictor.load(folder)(photo)
    class_ids = expected.pop("class_ids")
    assert sum(one["fraction"] > 0.05 for one in expected["classes"]) > 2, expected
    with serve(folder) as (url, _):
        open_page(page, url)
        assert_same(show_photo(page, photo), expected)
        pixels = read_canvas(page)
        lines = page.evaluate("[...document.querySelectorAll('#found li')].map(item => item.innerText)")
    image = predictor.read_image(photo)
    picture = draw_masks(image, Mask(class_ids), None, task.class_names)[: len(image)]
    assert (np.abs(pixels.astype(int) - picture).max(2) <= 2).mean() > 0.99
    shown = [one for one in expected["classes"] if one["fraction"] >= 0.005]
    assert [line.split("\n")[0] for line in lines] == [one["class_name"] for one in shown]


def compare_with_predictor(page: Page, task: Any, photo: Any, tmp_path: Path, runtime: dict[str, bytes]) -> Any:
    """The record of predictor.py for a photo, which is the page's; the network has random weights."""
    folder, path = tmp_path / "page", tmp_path / "photo.png"
    write_folder(task, task.build_model().eval(), folder, runtime)
    PIL.Image.fromarray(photo).save(path)
    model = predictor.load(folder)
    if "faces" in model.settings:
        model.settings["faces"] = "all"
        (folder / "predictor.json").write_text(json.dumps(model.settings))
    with serve(folder) as (url, _):
        open_page(page, url)
        found = show_photo(page, path)
    expected = model(path)
    assert_same(found, expected)
    return expected


def assert_same(found: Any, expected: Any) -> None:
    """The same names in the same order, and nearly the same numbers."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=2e-3)
    else:
        assert found == expected


def test_files_that_are_no_photos_are_refused_and_the_camera_runs(
    runtime: dict[str, bytes], page: Page, unbroken: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("some text")
    folder = tmp_path / "exported"
    assert main("detection", ["export", "--run", str(unbroken), "--format", "web", "--out", str(folder)]) == 0
    with serve(folder) as (url, _):
        open_page(page, url)
        page.choose_file("#file", tmp_path / "text.jpg")
        page.wait_for(f"{STATUS} == 'Error: text.jpg: not a picture that this browser can read'")
        page.evaluate("document.getElementById('camera').click()")
        page.wait_for(f"/^\\d+ ms for a photo of 640 x 480/.test({STATUS})")
        assert page.evaluate("document.getElementById('camera').textContent") == "Stop the camera"
        page.evaluate("document.getElementById('camera').click()")
        assert page.evaluate("document.getElementById('camera').textContent") == "Use the camera"
        refused = page.evaluate("fetch('http://localhost:1/').catch(error => error.message)")
        assert refused == "Failed to fetch"
        (folder / "predictor.json").unlink()
        page.call("Page.reload", ignoreCache=True)
        page.wait_for(
            f"{STATUS}.startsWith('Error: predictor.json: status 404; expected the folder that export wrote')"
        )


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")
@pytest.mark.parametrize("size", [(90, 61), (10, 50), (300, 7), (1, 1), (64, 64)])
@pytest.mark.parametrize("antialias", [True, False])
def test_pixels_are_resized_as_pillow_and_opencv_do(
    size: tuple[int, int], antialias: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    """To within one level: the antialiased filter is Pillow's, the other one OpenCV's."""
    width, height = size
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    wide, high, left, top, side = 70, 64, 3, 1, 60
    shutil.copyfile(web_page.TEMPLATES / "pixels.js", tmp_path / "pixels.mjs")
    (tmp_path / "image").write_bytes(np.dstack([image, np.full((height, width), 255, np.uint8)]).tobytes())
    code = f"""
        import {{ readFileSync, writeFileSync }} from "node:fs";
        import {{ resize }} from "./pixels.mjs";
        const image = {{ data: new Uint8ClampedArray(readFileSync("image")), width: {width}, height: {height} }};
        const planes = resize(image, {wide}, {high}, {left}, {top}, {side}, {str(antialias).lower()});
        writeFileSync("resized", planes);
    """
    subprocess.run(["node", "--input-type=module", "-e", code], cwd=tmp_path, check=True)
    actual = np.frombuffer((tmp_path / "resized").read_bytes(), np.uint8).reshape(3, side, side)
    if antialias:
        whole = np.asarray(PIL.Image.fromarray(image).resize((wide, high), PIL.Image.Resampling.BILINEAR))
    else:
        whole = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
    expected = whole[top : top + side, left : left + side].transpose(2, 0, 1)
    assert np.abs(actual.astype(int) - expected).max() <= 1


def test_export_writes_the_page_and_all_that_it_loads(
    installed: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("detection", ["export", "--run", str(unbroken), "--format", "web", "--out", "out"]) == 0
    assert "python -m http.server --bind 127.0.0.1 --directory out" in capsys.readouterr().err
    for name in FILES:
        assert (Path("out") / PACKAGE / name).read_bytes() == (installed / name).read_bytes()
    assert json.loads(Path("out/predictor.json").read_text()) == predictor.load("out").settings
    scripts = [path for path in Path("out").iterdir() if path.suffix in (".html", ".js")]
    for script in scripts:
        for name in re.findall(r'(?:from|src=) ?"\./([^"]+)"|src="([^"]+)"', script.read_text()):
            assert (Path("out") / "".join(name)).is_file(), (script, name)
        assert not re.search(r"https?://(?!127\.0\.0\.1)", script.read_text()), "nothing comes from other servers"


def test_page_of_raw_outputs_is_refused(unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "--run", str(unbroken), "--raw", "--format", "web", "--out", str(tmp_path / "out")]
    assert main("detection", words) == 1
    assert "error: --raw: a page needs the postprocessing inside the file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runtime_that_cannot_be_had_is_explained(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed / FILES[1]).unlink()
    with pytest.raises(ValueError, match=rf"dist: has no {FILES[1]}; run: npm install {PACKAGE}@"):
        read_runtime()
    shutil.rmtree("node_modules")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        ValueError, match=rf"there is no npm that downloads it; where npm works, run: npm install {PACKAGE}@"
    ):
        read_runtime()
    npm = installed.parents[2] / "npm"
    npm.write_text("#!/bin/sh\necho npm error code ENOTFOUND >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    with pytest.raises(ValueError, match=r"npm cannot download .* \(npm error code ENOTFOUND\); where npm works, run:"):
        read_runtime()
