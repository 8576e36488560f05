"""`predict` writes what it reports, for all file names, and loses nothing when it is interrupted."""

import errno
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from datasets.drawing.draw import put_label
from datasets.images.read import Decoding, read_image, write_image
from datasets.types import Image, PreparedImage
from tasks.common.inference_task import BATCH_SIZE
from tasks.common.prediction.files import RECORDS, UNFINISHED, PredictionFiles, SaveFormat, check_formats, is_unfinished
from tasks.common.prediction.pipeline import LeftOut, PredictionReport, predict_sources
from tasks.common.prediction.result import Result
from tasks.common.prediction.sources import InputImage, Live, Picture, Source, Video
from tasks.common.runtime.signals import stop_signals
from tasks.common.task import Task

LATIN_1 = os.fsdecode(b"caf\xe9")  # a name that is not UTF-8


class Sizes:
    """A model, its task, and its results: the height of each image; drawn as it is, and half of it as a crop."""

    decoding = Decoding()

    def __init__(self, on_draw: Callable[[int], None] = lambda count: None) -> None:
        self.task = self
        self.num_drawn = 0
        self._on_draw = on_draw

    def prepare(self, image: InputImage) -> list[PreparedImage]:
        return [PreparedImage(image.image)]

    def predict_prepared(
        self, images: Sequence[InputImage], inputs: Sequence[Sequence[PreparedImage]]
    ) -> list[Result[int]]:
        heights = [len(prepared.pixels) for (prepared,) in inputs]
        return [SizeResult(image, (height,), (), self) for image, height in zip(images, heights, strict=True)]  # type: ignore[arg-type]

    def describe(self, predicted: int, _image_hw: tuple[int, int]) -> dict[str, Any]:
        return {"height_seen": predicted}

    def summarize(self, predicted: Sequence[int]) -> str:
        return f"{predicted[0]} px high"

    def draw(self, image: Image, predicted: int) -> Image:
        assert predicted == len(image)
        self.num_drawn += 1
        self._on_draw(self.num_drawn)
        return image

    describe_all, draw_all = Task.describe_all, Task.draw_all


class SizeResult(Result[int]):
    def labelled_crops(self) -> list[tuple[str, Image]]:
        return [("upper/half", self.source.image[: self.predictions[0] // 2])]


def run(
    model: Any, paths: Sequence[Path | Source], out: Path, stop: Any = (), *formats: SaveFormat, **options: Any
) -> PredictionReport:
    out.mkdir(exist_ok=True)
    with PredictionFiles(out, "digest", formats or ("boxes",)) as files:
        return predict_sources(model, sources(paths), files, stop=stop, **options)


def sources(paths: Sequence[Path | Source]) -> list[Source]:
    return [
        path if isinstance(path, Source) else (Video if path.suffix == ".mp4" else Picture)(str(path), path)
        for path in paths
    ]


def records(out: Path) -> list[dict[str, Any]]:
    text = (out / RECORDS).read_text(encoding="ascii")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def picture(height: int = 24) -> Image:
    return np.full((height, 32, 3), 90, np.uint8)


def pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for number, path in enumerate(paths):
        write_image(path, picture(24 + number))
    return paths


def write_video(path: Path, num_frames: int = 3) -> None:
    named = path.with_name("video.mp4")
    writer = cv2.VideoWriter(str(named), cv2.VideoWriter.fourcc(*"mp4v"), 5, (32, 24))
    assert writer.isOpened()
    for _ in range(num_frames):
        writer.write(picture())
    writer.release()
    named.rename(path)


def num_frames(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def test_a_file_name_need_not_be_utf_8(tmp_path: Path) -> None:
    photo, video = tmp_path / f"{LATIN_1}.png", tmp_path / f"{LATIN_1}.mp4"
    write_image(photo, picture())
    assert b"caf\xe9.png" in os.listdir(os.fsencode(tmp_path))
    write_video(video)
    out = tmp_path / "out"
    report = run(Sizes(), [photo, video], out)
    assert report.num_images == 1
    (reason,) = report.unreadable.first_reasons
    assert reason == f"{video}: OpenCV cannot open a video whose name is not UTF-8; rename it"
    assert read_image(out / f"{LATIN_1}.jpg").shape == (24, 32, 3)
    assert [Path(record["image"]) for record in records(out)] == [photo]


def test_a_label_need_not_be_utf_8() -> None:
    image = picture()
    put_label(image, LATIN_1, 0, 0, (255, 255, 255))
    assert (image != picture()).any()


def test_an_image_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere.a\.png"):
        write_image(tmp_path / "nowhere" / "a.png", picture())


def test_a_video_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4")
    assert run(Sizes(), [tmp_path / "a.mp4"], tmp_path / "out").num_images == 3
    assert num_frames(tmp_path / "out" / "a.mp4") == 3

    real = cv2.VideoWriter

    class WithoutCodec:
        fourcc = staticmethod(real.fourcc)

        def __init__(self, *_: Any) -> None:
            self.closed = real()

        def isOpened(self) -> bool:  # noqa: N802
            return self.closed.isOpened()

    monkeypatch.setattr(cv2, "VideoWriter", WithoutCodec)
    with pytest.raises(ValueError, match=r"a\.mp4: OpenCV cannot write MPEG-4 video here.*pip install opencv-python-h"):
        run(Sizes(), [tmp_path / "a.mp4"], tmp_path / "other")
    assert records(tmp_path / "other") == []


def test_what_could_not_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = pictures(tmp_path / "in", 2)
    broken, missing, video = tmp_path / "broken.jpg", tmp_path / "missing.jpg", tmp_path / "cut.mp4"
    broken.write_text("no image")
    video.write_bytes(b"no video")
    report = run(Sizes(), [good[0], broken, missing, video, good[1]], tmp_path / "out")
    assert report.num_images == 2
    assert report.unreadable.first_reasons == [
        f"{broken}: not an image in a format that is read",
        f"{missing}: No such file or directory",
        f"{video}: OpenCV cannot read this video",
    ]
    monkeypatch.setattr("tasks.common.prediction.pipeline.MAX_LISTED", 2)  # else memory grows with what is left out
    left_out = run(Sizes(), [good[0], *[missing] * 5], tmp_path / "many").unreadable
    assert left_out == LeftOut(5, [f"{missing}: No such file or directory"] * 2)
    with pytest.raises(ValueError, match=r"none of 1 input could be read; the first: .*broken\.jpg: not an image"):
        run(Sizes(), [broken], tmp_path / "other")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_what_is_begun_and_the_same_folder_goes_on(signum: int, tmp_path: Path) -> None:
    paths, out = pictures(tmp_path / "in", 5 * BATCH_SIZE), tmp_path / "out"

    def send(count: int) -> None:
        if count == BATCH_SIZE + 1:
            os.kill(os.getpid(), signum)

    with stop_signals() as received:
        report = run(Sizes(send), paths, out, received)
    assert report.is_interrupted
    num_done = report.num_images
    assert 2 * BATCH_SIZE <= num_done < 5 * BATCH_SIZE
    assert [record["image"] for record in records(out)] == list(map(str, paths[:num_done]))
    assert len(list(out.glob("*.jpg"))) == num_done
    assert is_unfinished(out)
    again = Sizes()
    report = run(again, paths, out)
    assert (again.num_drawn, report.num_images, report.is_interrupted) == (len(paths) - num_done, len(paths), False)
    assert_complete(out, paths)


class StopError(Exception):
    pass


@pytest.mark.parametrize(
    "failing", [1, 3, 5, 8, 9, 13, 16]
)  # the second image, in and after the first video, in the second one, the last
@pytest.mark.parametrize("formats", [("boxes",), ("boxes", "crops"), ("none",)])
def test_an_error_at_any_picture_keeps_the_ones_before(
    failing: int, formats: tuple[SaveFormat, ...], tmp_path: Path
) -> None:
    """Images of equal names, an unreadable one, and two videos, of which an unfinished one is predicted again."""
    first, second = pictures(tmp_path / "a", 3), pictures(tmp_path / "b", 3)
    (tmp_path / "broken.png").write_text("")
    for name in ("a/v.mp4", "b/v.mp4"):
        write_video(tmp_path / name, 5)
    order = [*first[:2], tmp_path / "broken.png", tmp_path / "a/v.mp4", *second, tmp_path / "b/v.mp4", first[2]]
    run(Sizes(), order, tmp_path / "expected", (), *formats)
    total = len(records(tmp_path / "expected"))
    assert total == 6 + 10

    out = tmp_path / "out"
    with pytest.raises(StopError):
        run(FailingAt(failing), order, out, (), *formats)
    assert len(records(out)) == failing - 1
    assert is_unfinished(out)
    assert run(Sizes(), order, out, (), *formats).num_images == total
    assert records(out) == records(tmp_path / "expected")
    assert contents(out) == contents(tmp_path / "expected")
    assert [num_frames(path) for path in sorted(out.glob("*.mp4"))] == ([5, 5] if "boxes" in formats else [])
    assert len(list(out.glob("crops/upper_half/*.jpg"))) == (total if "crops" in formats else 0)
    assert not is_unfinished(out)


class FailingAt(Sizes):
    """Fails to describe the N-th result; results are described in order, by one thread."""

    def __init__(self, failing: int) -> None:
        super().__init__()
        self._left = failing

    def describe(self, predicted: int, image_hw: tuple[int, int]) -> dict[str, Any]:
        self._left -= 1
        if self._left == 0:
            raise StopError
        return super().describe(predicted, image_hw)


def contents(folder: Path) -> dict[Path, bytes]:
    """Of all files but the videos, in which the time is written."""
    return {
        path.relative_to(folder): b"" if path.suffix == ".mp4" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_first_error_of_any_thread_ends_it_and_leaves_no_gap(tmp_path: Path) -> None:
    """Drawn in several threads, each picture known by its brightness."""
    paths = pictures(tmp_path / "in", 3 * BATCH_SIZE)
    write_image(paths[11], np.full((24, 32, 3), 200, np.uint8))

    class Fails(Sizes):
        def draw(self, image: Image, predicted: int) -> Image:
            if image[0, 0, 0] == 200:
                raise StopError
            return super().draw(image, predicted)

    with pytest.raises(StopError):
        run(Fails(), paths, tmp_path / "out")
    assert [record["image"] for record in records(tmp_path / "out")] == list(map(str, paths[:11]))
    assert run(Sizes(), paths, tmp_path / "out").num_images == len(paths)


def test_an_error_before_the_network_keeps_what_was_computed(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", 3 * BATCH_SIZE)

    class Fails(Sizes):
        def prepare(self, image: InputImage) -> list[PreparedImage]:
            if len(image.image) == 24 + 2 * BATCH_SIZE + 3:
                raise StopError
            return super().prepare(image)

    with pytest.raises(StopError):
        run(Fails(), paths, tmp_path / "out")
    assert len(records(tmp_path / "out")) == 2 * BATCH_SIZE


def test_images_are_read_and_kept_a_few_at_a_time(tmp_path: Path) -> None:
    """Whatever their number: read ahead, of one batch in the network, and of one that is written."""
    paths = pictures(tmp_path / "in", 8 * BATCH_SIZE)
    most = 0

    class Counts(Sizes):
        num_read = 0

        def prepare(self, image: InputImage) -> list[PreparedImage]:
            nonlocal most
            self.num_read += 1
            most = max(most, self.num_read - self.num_drawn)
            return super().prepare(image)

    run(Counts(), paths, tmp_path / "out")
    assert most <= 3 * BATCH_SIZE


def assert_complete(out: Path, paths: list[Path]) -> None:
    assert [record["image"] for record in records(out)] == list(map(str, paths))
    assert [record["height"] for record in records(out)] == [len(read_image(path)) for path in paths]
    assert {path.name for path in out.iterdir()} == {RECORDS, *(f"{path.stem}.jpg" for path in paths)}


def test_a_record_of_which_the_end_is_missing_is_written_again(tmp_path: Path) -> None:
    """As after a power failure."""
    paths, out = pictures(tmp_path / "in", 5), tmp_path / "out"
    run(Sizes(), paths, out)
    whole = (out / RECORDS).read_bytes()
    for cut in (1, 20, len(whole) // 2, len(whole) - 1):
        (out / RECORDS).write_bytes(whole[:-cut])
        (out / UNFINISHED).write_text(json.dumps({"digest": "digest", "formats": ["boxes"]}))
        run(Sizes(), paths, out)
        assert (out / RECORDS).read_bytes() == whole


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """With a limit on the size of files, which ends a write in the middle as a full disk does."""
    paths, out = pictures(tmp_path / "in", 40), tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            run(Sizes(), paths, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert 5 < len(records(out)) < 40
    run(Sizes(), paths, out)
    assert_complete(out, paths)


def test_predictions_of_another_network_are_not_mixed_in(tmp_path: Path) -> None:
    paths, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    with pytest.raises(StopError):
        run(Sizes(lambda count: (_ for _ in ()).throw(StopError())), paths, out)
    with pytest.raises(ValueError, match=r"--out: the interrupted predictions in .*out are of another network"):
        PredictionFiles(out, "other")
    with pytest.raises(ValueError, match=r"--out: the interrupted predictions in .*out are of another network or oth"):
        PredictionFiles(out, "digest", ("boxes", "crops"))
    (out / RECORDS).write_text('{"no": "record"}\n')
    with pytest.raises(ValueError, match=r"predictions\.jsonl: line 1 is not a record of predict"):
        PredictionFiles(out, "digest")
    assert (out / RECORDS).read_text() == '{"no": "record"}\n'


class LiveFrames(Live):
    """A stream whose frames 0, 3, 6, ... are seen."""

    def images_until(self, stop: Sequence[int]) -> Iterator[InputImage]:
        for index in range(0, 30, 3):
            if stop:
                return
            yield InputImage(self.name, index, picture())


def test_a_stream_that_ends_is_complete_and_a_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    report = run(Sizes(), [LiveFrames("camera 3", 3, 5.0)], out, line=str)
    assert (report.num_images, report.is_interrupted, report.unreadable) == (10, False, LeftOut())
    assert [record["frame"] for record in records(out)] == list(range(0, 30, 3))
    assert num_frames(out / "camera 3.mp4") == 28  # at its own speed, with each frame in place of the ones dropped
    assert not is_unfinished(out)
    printed = capsys.readouterr()
    assert printed.out == "24 px high\n"  # one line a second
    assert printed.err == "camera 3: it ended, or the connection broke, after 28 frames\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_stream_and_what_was_seen_is_complete(signum: int, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def send(count: int) -> None:
        if count == 4:
            os.kill(os.getpid(), signum)

    with stop_signals() as received:
        report = run(Sizes(send), [LiveFrames("rtsp://host/live.sdp", "rtsp://host/live.sdp", 5.0)], out, received)
    assert not report.is_interrupted
    assert 4 <= report.num_images == len(records(out)) <= 6
    assert num_frames(out / "live.mp4") == 1 + records(out)[-1]["frame"]
    assert not is_unfinished(out)


def test_each_picture_has_a_line_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = pictures(tmp_path / "in", 3 * BATCH_SIZE)
    run(Sizes(), paths, tmp_path / "out", line=lambda result: f"{result.source.name}: {result}")
    expected = [f"{path}: {24 + number} px high" for number, path in enumerate(paths)]
    assert capsys.readouterr().out.splitlines() == expected


def test_lines_go_to_standard_output_also_while_a_bar_is_on_the_terminal(tmp_path: Path) -> None:
    """With stderr on a terminal and stdout in a file, as in `predict ... > lines.txt`."""
    code = """
import sys
from datasets.progress import Progress
with Progress("predicting", 3) as progress:
    for number in range(3):
        progress.write(f"line {number}")
        progress.advance()
"""
    main, terminal = pty.openpty()
    with (tmp_path / "lines.txt").open("w", encoding="utf-8") as lines:
        subprocess.run([sys.executable, "-c", code], stdout=lines, stderr=terminal, check=True)
    os.close(terminal)
    assert (tmp_path / "lines.txt").read_text(encoding="utf-8") == "line 0\nline 1\nline 2\n"
    shown = os.read(main, 10**6).decode()
    os.close(main)
    assert "predicting" in shown
    assert "line 0" not in shown


def test_formats_are_checked_against_the_task() -> None:
    task: Any = SimpleNamespace(name="places", metadata={}, config=SimpleNamespace(data=SimpleNamespace()))
    check_formats(["boxes"], task)
    for formats, message in (
        (["none", "boxes"], "--save: none is for records alone"),
        (["coco"], "--save coco: tasks.places has no objects"),
        (["crops"], "--save crops: tasks.places has no boxes here"),
    ):
        with pytest.raises(ValueError, match=message):
            check_formats(formats, task)  # type: ignore[arg-type]
    faces: Any = SimpleNamespace(name="faces", metadata={}, config=SimpleNamespace(data=SimpleNamespace(align="yunet")))
    check_formats(["crops"], faces)


def test_coco_results_are_read_by_pycocotools(tmp_path: Path) -> None:
    """Boxes as x, y, width, height; a file's number is its image's id."""

    class Objects(Sizes):
        def describe(self, predicted: int, image_hw: tuple[int, int]) -> dict[str, Any]:
            return {"detections": [{"category_id": 7, "score": 0.5, "box_xyxy": [1.5, 2.0, predicted, 20.0]}]}

    paths = pictures(tmp_path / "in", 3)
    run(Objects(), paths, tmp_path / "out", (), "coco")
    truth = COCO()
    truth.dataset = {"info": {}, "images": [{"id": number} for number in range(3)], "categories": [{"id": 7}]}
    truth.dataset["annotations"] = []
    truth.createIndex()
    loaded = truth.loadRes(str(tmp_path / "out" / "coco_results.json"))
    boxes = {entry["image_id"]: entry["bbox"] for entry in loaded.dataset["annotations"]}
    assert boxes == {number: [1.5, 2.0, 22.5 + number, 18.0] for number in range(3)}
    assert loaded.dataset["annotations"][0]["file_name"] == str(paths[0])
    paths[1].rename(tmp_path / "in" / "a.png")
    run(Objects(), sorted((tmp_path / "in").iterdir()), tmp_path / "named", (), "coco")
    found = json.loads((tmp_path / "named" / "coco_results.json").read_text())
    assert [(entry["image_id"], Path(entry["file_name"]).name) for entry in found] == [
        *((1, "000.png"), (2, "002.png"), (3, "a.png"))
    ]
