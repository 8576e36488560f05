"""Callbacks see what the log has; loggers of other projects get the same, go on with a resumed run, and cost none."""

import json
import math
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.common.cli.parser import parse_arguments
from tasks.common.config import LOGGERS, LoopConfig
from tasks.common.runtime import extras
from tasks.common.runtime.distributed import World
from tasks.common.training import fit as fit_module
from tasks.common.training.callback import Callback, Callbacks, Training, watched_by
from tasks.common.training.loggers.base import epoch_scalars
from tasks.common.training.loggers.table import build_loggers, check_loggers
from tasks.common.training.run_log import watchers
from tasks.detection.config import DetectionConfig
from tasks.detection.task import DetectionTask
from tests.tasks.common.recorder import Recorder
from tests.tasks.common.runs import EPOCHS, STEPS_PER_EPOCH, read_log, run_detection, words_of

INTERVAL = 4  # steps between two calls of `on_step`; divides those of an epoch
TAGS = {"step/loss", "step/loss_classes", "step/loss_boxes", "step/lr", "train/loss", "train/lr", "val/AP", "best/AP"}


class Breaking(Recorder):
    """Fails at a step; the training goes on if it is not essential."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        super().on_step(step, values)
        if step >= self.step:
            raise ConnectionError("the server is away\nand more")


class Dispensable(Breaking):
    is_essential = False


def build_task(root: Path, *more: str) -> DetectionTask:
    words = words_of(root, "--loop.num_workers", "0", *more)[3:]
    return DetectionTask.from_data(parse_arguments("detection", DetectionConfig, Path(), words).config)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "LOG_EVERY_STEPS", INTERVAL)


def test_a_callback_sees_the_log_and_one_that_fails_costs_nothing(
    unbroken: Path, generated_root: Path, tmp_path: Path
) -> None:
    recorder, dispensable = Recorder(), Dispensable(STEPS_PER_EPOCH)
    expected = r"^Dispensable failed \(ConnectionError: the server is away\); the training goes on without it"
    with pytest.warns(UserWarning, match=expected) as caught:
        scores = fit_module.fit(build_task(generated_root), tmp_path, callbacks=[dispensable, recorder])
    assert len([warning for warning in caught if "Dispensable" in str(warning.message)]) == 1
    assert dispensable.of("step")[-1][0] == STEPS_PER_EPOCH
    assert not dispensable.of("epoch")

    ((training,), epochs, steps) = recorder.of("start"), recorder.of("epoch"), recorder.of("step")
    assert (training.run, training.task, training.step) == (tmp_path, "detection", 0)
    assert training.settings["optim"]["epochs"] == EPOCHS
    assert recorder.calls[-1] == ("end", scores)
    assert [step for step, _ in steps] == list(range(INTERVAL, EPOCHS * STEPS_PER_EPOCH + 1, INTERVAL))
    for epoch, row in enumerate(epochs):  # the mean of equally many batches' means is the epoch's
        of_epoch = [values for step, values in steps if epoch < step / STEPS_PER_EPOCH <= epoch + 1]
        for name in ("loss", "loss_classes", "loss_boxes"):
            assert sum(values[name] for values in of_epoch) / len(of_epoch) == pytest.approx(row[name])
        assert of_epoch[-1]["lr"] == row["lr"]
    for row, text in zip(epochs, read_log(tmp_path), strict=True):
        assert {key: float(value) for key, value in text.items() if value} == pytest.approx(row, rel=1e-5, abs=1e-6)
    weights, same = (torch.load(run / "last.pt", weights_only=True)["model"] for run in (tmp_path, unbroken))
    assert all(torch.equal(weights[name], same[name]) for name in same)


def test_only_the_first_process_is_watched(tmp_path: Path) -> None:
    calls = []
    for rank in range(2):
        recorder = Recorder()
        watchers((), [recorder], World(rank, 2)).on_start(Training(tmp_path, "detection", {}, "AP"))
        calls.append(len(recorder.calls))
    assert calls == [1, 0]


class Fails(Recorder):
    """Fails at an event, and when it is told of it."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self._event = event

    def on_start(self, training: Training) -> None:
        super().on_start(training)
        self._fail("start")

    def on_end(self, scores: Mapping[str, float]) -> None:
        super().on_end(scores)
        self._fail("end")

    def on_exception(self, error: BaseException) -> None:
        super().on_exception(error)
        raise AttributeError("it was not ready")

    def _fail(self, event: str) -> None:
        if event == self._event:
            raise RuntimeError(event)


@pytest.mark.parametrize("event", ["start", "end"])
def test_each_callback_ends_once_and_the_first_error_stays(event: str, tmp_path: Path) -> None:
    before, failing, after = Recorder(), Fails(event), Recorder()
    callbacks = Callbacks([before, failing, after])
    warned: Any = nullcontext()
    if event == "start":
        warned = pytest.warns(UserWarning, match="Fails failed .AttributeError: it was not ready")
    with warned, pytest.raises(RuntimeError, match=event), watched_by(callbacks, Training(tmp_path, "t", {}, "score")):
        callbacks.on_end({})
    names = [[name for name, _ in recorder.calls] for recorder in (before, failing, after)]
    assert (
        names
        == {
            "start": [["start", "exception"], ["start", "exception"], []],
            "end": [["start", "end"], ["start", "end"], ["start", "exception"]],
        }[event]
    )


def test_an_undefined_score_is_no_point_of_a_curve() -> None:
    row = {"epoch": 1, "step": 12, "lr": 0.1, "loss": 2.0, "loss_boxes": 1.0, "wait_fraction": 0.5, "AP": math.nan}
    assert epoch_scalars(row) == {"train/lr": 0.1, "train/loss": 2, "train/loss_boxes": 1, "train/wait_fraction": 0.5}
    assert epoch_scalars(row | {"AP": 0.25})["val/AP"] == 0.25


@pytest.mark.parametrize("text", ["tensorbord", "wandb,wandb", "", "none,wandb"])
def test_loggers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^loop\.loggers: expected tensorboard, mlflow or wandb, several with commas"):
        LoopConfig(loggers=text)


def test_every_logger_has_a_class_and_an_extra() -> None:
    assert LoopConfig().logger_names == ()
    assert LoopConfig(loggers="wandb, tensorboard").logger_names == ("wandb", "tensorboard")
    assert len({type(logger) for logger in build_loggers(LOGGERS)}) == len(LOGGERS)


def test_a_missing_package_is_one_line_before_anything_is_made(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "version", lambda _: "0.0.1")
    run = tmp_path / "run"
    for name in LOGGERS:
        done = run_detection(*words_of(generated_root, "--run_dir", str(run), "--loop.loggers", name)[3:])
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: loop.loggers {name}: needs {name}>=")
        assert line.endswith(f"found 0.0.1; install it with: pip install '.[{name}]'")
    assert not run.exists()


# What loggers have written: scalars as {tag: {step: [values]}}, the names of pictures, and the settings as texts.
Written = tuple[dict[str, dict[int, list[float]]], set[str], dict[str, str]]


def read_tensorboard(run: Path) -> Written:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    scalars: Any = defaultdict(lambda: defaultdict(list))
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            scalars[tag][event.step].append(event.value)
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    settings = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    return scalars, set(events.Tags()["images"]), {"optim.lr": settings["  lr"]}


def read_mlflow(run: Path) -> Written:
    from mlflow import MlflowClient

    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("detection").experiment_id])
    assert found.info.run_name == str(run)
    assert found.info.status == "FINISHED"
    scalars: Any = defaultdict(lambda: defaultdict(list))
    for tag in found.data.metrics:
        for metric in client.get_metric_history(found.info.run_id, tag):
            scalars[tag][metric.step].append(metric.value)
    pictures = {Path(file.path).stem for file in client.list_artifacts(found.info.run_id)}
    return scalars, pictures, found.data.params


def read_wandb(run: Path) -> Written:
    """What `wandb sync` would send: one run, of the two parts before and after it was resumed."""
    scalars: Any = defaultdict(lambda: defaultdict(list))
    pictures: set[str] = set()
    settings: dict[str, str] = {}
    ids = set()
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    for record in (record for file in files for record in wandb_records(file)):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            ids.add((record.run.run_id, record.run.display_name, record.run.project))
            values = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            settings |= {"optim.lr": str(values["optim"]["lr"])}
        elif kind == "history":
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            for tag, value in values.items():
                if value == "image-file":
                    pictures |= {tag.removesuffix("/_type")}
                elif tag.startswith(("step/", "train/", "val/", "best/")):
                    scalars[tag][values["step"]].append(value)
    ((_, name, project),) = ids
    assert (name, project) == (str(run), "detection")
    return scalars, pictures, settings


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a file of W&B: those of LevelDB's log format, behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, position, joined, block = path.read_bytes(), 7, b"", 32768
    while position + 7 <= len(data):
        if block - position % block < 7:  # the rest of a block has no place for a record's header
            position += block - position % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        position += 7 + size
        joined += data[position - size : position]
        if kind in (1, 4):  # full, last
            record = wandb_internal_pb2.Record()
            record.ParseFromString(joined)
            joined = b""
            yield record


READERS: dict[str, Callable[[Path], Written]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}


@pytest.fixture(scope="module")
def resumed(generated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Callback]]:
    """A run with all loggers that are installed, which broke in its second epoch and was resumed; and what it told."""
    installed = []
    for name in LOGGERS:
        try:
            check_loggers([name])
        except ValueError:
            continue
        installed.append(name)
    run = tmp_path_factory.mktemp("watched")
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{run}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    more = ("--loop.checkpoint_minutes", "1000", "--loop.loggers", ",".join(installed) or "none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "LOG_EVERY_STEPS", INTERVAL)
        patch.chdir(run)  # for MLflow's pictures
        for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(ConnectionError):
            fit_module.fit(build_task(generated_root, *more), run, callbacks=[Breaking(STEPS_PER_EPOCH + 2 * INTERVAL)])
        recorder = Recorder()
        fit_module.fit(build_task(generated_root, *more), run, resume=True, callbacks=[recorder])
        yield run, recorder


@pytest.mark.filterwarnings("default")  # other projects' own
@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_has_every_scalar_of_a_resumed_run(name: str, resumed: tuple[Path, Recorder]) -> None:
    pytest.importorskip(name)
    run, recorder = resumed
    assert recorder.of("start")[0].step == STEPS_PER_EPOCH
    scalars, pictures, settings = READERS[name](run)
    assert set(scalars) >= TAGS
    for row in read_log(run):
        for tag, value in epoch_scalars({key: float(text) for key, text in row.items() if text}).items():
            assert scalars[tag][int(row["step"])] == [pytest.approx(value, rel=1e-5, abs=1e-6)], tag
    last = EPOCHS * STEPS_PER_EPOCH
    metrics = json.loads((run / "metrics.json").read_text())
    assert scalars["best/AP"] == {last: [pytest.approx(metrics["AP"])]}
    losses = scalars["step/loss"]
    assert sorted(losses) == list(range(INTERVAL, last + 1, INTERVAL))
    assert all(max(values) == pytest.approx(min(values)) for values in losses.values())  # repeated steps are the same
    assert dict(recorder.of("step")).keys() == {step for step in losses if step > STEPS_PER_EPOCH}
    assert pictures == {"predictions", "curves"}
    assert float(settings["optim.lr"]) == recorder.of("start")[0].settings["optim"]["lr"]
