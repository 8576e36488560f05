"""Distributed training equals that of one process: gradients, signals, unreadable images, restarts."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbone.mobilenet import MobileNet
from datasets.loader import Key, build_batch
from datasets.types import Unreadable
from tasks.common.config import BackboneConfig, OptimConfig
from tasks.common.evaluation.unreadable import LeftOut, LeftOutInTraining, UnreadableImages
from tasks.common.runs.folder import find_restarted_run, write_launch_id
from tasks.common.runtime.device import synchronize_batch_norm
from tasks.common.runtime.distributed import SINGLE_PROCESS, World, _agree_on_name, shared_batch_size
from tasks.common.training.freeze import set_trainable
from tasks.common.training.optim import EmaModel, build_optimizer
from tasks.common.training.state import TrainingState
from tasks.common.training.step import train_step
from tasks.detection.config import DetectionConfig
from tasks.registry import TASKS
from tests.gradients import CASES, EVALUATED, first_gradient, scores
from tests.tasks.common.runs import TIMEOUT_S, read_log, run_detection, train_detection, words_of

ON_CPU = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # two processes cannot share a single GPU
ENDS_WITHIN_S = 100  # for a run of a few steps on a busy machine


def torchrun(*words: str) -> list[str]:
    """The command that starts two processes of a module."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *words]


def train(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Two processes with 4 images in a step."""
    words = torchrun(*words_of(root, "--optim.batch_size", "4", "--loop.num_workers", "0", *more)[1:])
    return subprocess.run(words, env=ON_CPU, capture_output=True, check=False, text=True, timeout=ENDS_WITHIN_S)


@pytest.fixture(scope="module")
def roots(generated_roots: Callable[[str], Path]) -> dict[str, str]:
    return {task: str(generated_roots(task)) for task in TASKS}


@pytest.fixture(scope="module")
def of_two_processes(roots: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The gradient and loss of the first step of each training case, and the scores, from two processes."""
    file = tmp_path_factory.mktemp("gradients") / "two.pt"
    words = torchrun("-m", "tests.gradients", str(file), json.dumps(roots))
    done = subprocess.run(words, env=ON_CPU, capture_output=True, check=False, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


@pytest.mark.parametrize("case", CASES)
def test_gradient_of_two_processes_is_that_of_one(
    case: str, roots: dict[str, str], of_two_processes: dict[str, Any]
) -> None:
    expected, expected_loss = first_gradient(case, roots)
    actual, loss = of_two_processes[case]
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    largest = max(gradient.abs().max().item() for gradient in expected)
    assert largest > 0
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("case", EVALUATED)
def test_scores_of_two_processes_are_those_of_one(
    case: str, roots: dict[str, str], of_two_processes: dict[str, Any]
) -> None:
    """With the same failure cases; each image counts once, also where their number is odd."""
    expected, num_images, worst = scores(case, roots)
    assert of_two_processes["scores"][case] == (pytest.approx(expected, abs=1e-6, nan_ok=True), num_images, worst)


def test_processes_that_differ_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every process, whichever differs."""

    class Two(World):
        def all_gather(self, value: Any) -> list[Any]:
            return [("node1", {"optim.lr": "0.1", "list of images": "5"}), value]

    monkeypatch.setattr("socket.gethostname", lambda: "node2")
    for rank in range(2):
        Two(rank, 2).check_same({"optim.lr": "0.1", "list of images": "5"})
        with pytest.raises(
            ValueError, match=r"^process 1 on node2 has another list of images \(4\) than process 0 on node1"
        ):
            Two(rank, 2).check_same({"optim.lr": "0.1", "list of images": "4"})
    SINGLE_PROCESS.check_same({"optim.lr": "0.1"})


def test_a_process_with_fewer_images_ends_all_before_training(generated_root: Path, tmp_path: Path) -> None:
    """The second process reads another folder: the number of its process is in the path."""
    for rank in range(2):
        shutil.copytree(generated_root, tmp_path / f"data{rank}")
    annotations = next((tmp_path / "data1" / "annotations").glob("*train*.json"))
    content = json.loads(annotations.read_text())
    gone = content["images"].pop(0)["id"]
    content["annotations"] = [object_ for object_ in content["annotations"] if object_["image_id"] != gone]
    annotations.write_text(json.dumps(content))
    script = f'exec {sys.executable} "$@" --data.root {tmp_path}/data$RANK'
    words = words_of(tmp_path, "--optim.batch_size", "4", "--loop.num_workers", "0", "--run_dir", str(tmp_path / "run"))
    command = [*torchrun("--no-python", "bash", "-c", script, "bash"), *words[1:4], *words[6:]]
    failed = subprocess.run(command, env=ON_CPU, capture_output=True, check=False, text=True, timeout=ENDS_WITHIN_S)
    assert failed.returncode == 1
    assert "has another list of training images (23, SHA-256 " in failed.stderr
    assert "[rank" not in failed.stderr, "no traceback of a process"
    assert not (tmp_path / "run").exists()


def test_a_process_whose_images_are_unreadable_joins_each_step(generated_root: Path, tmp_path: Path) -> None:
    """Evaluation counts each image once: one process gives the same score for the saved model."""
    data = tmp_path / "data"
    shutil.copytree(generated_root, data)
    for path in sorted((data / "train2017").glob("*.jpg"))[:20]:  # of 24: a process often has no readable one
        path.write_bytes(path.read_bytes()[:500])
    run = tmp_path / "run"
    done = train(data, "--run_dir", str(run), "--loop.max_unreadable_fraction", "0.9", "--optim.epochs", "2")
    assert done.returncode == 0, done.stderr
    assert int(read_log(run)[-1]["step"]) == 2 * 24 // 4
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["num_images"], metrics["num_unreadable"]) == (8, 0)
    alone = run_detection("evaluate", "--run", str(run), "--json")
    assert json.loads(alone.stdout)["AP"] == pytest.approx(metrics["AP"], abs=1e-6)


def test_too_many_unreadable_images_stop_all_processes(generated_root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(generated_root, data)
    path = next((data / "train2017").glob("*.jpg"))
    path.write_bytes(path.read_bytes()[:500])
    failed = train(data, "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    lines = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert any("1 of 24 images of train cannot be read; the first: " in line for line in lines)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "expected"),
    [
        (100, 8, 8),
        (11, 8, 8),
        (7, 8, 6),
        (4, 8, 4),
        (3, 8, "3 training images are too few for 2 processes; at least 4 are needed"),
        (100, 7, "optim.batch_size: 7 cannot be shared evenly"),
        (100, 2, "optim.batch_size: 2 cannot be shared evenly"),
    ],
)
def test_each_process_has_equally_many_images_two_or_more(
    num_images: int, batch_size: int, expected: int | str
) -> None:
    optim = OptimConfig(batch_size=batch_size)
    if isinstance(expected, int):
        assert shared_batch_size(num_images, optim, World(0, 2)) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            shared_batch_size(num_images, optim, World(0, 2))


def test_an_error_of_one_process_ends_the_other_with_one_line(generated_root: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    failed = train(generated_root, "--run_dir", str(tmp_path / "run"))
    assert failed.returncode == 1
    assert f"error: --run_dir: {tmp_path / 'run'} exists already" in failed.stderr
    assert "[rank" not in failed.stderr, "no traceback of a process"


def wait_for(process: subprocess.Popen[str], file: Path) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert file.exists()


def test_sigterm_under_torchrun_leaves_a_checkpoint_to_resume_from(generated_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = torchrun(
        *words_of(generated_root, "--optim.batch_size", "4", "--run_dir", str(run), "--optim.epochs", "2000")[1:]
    )
    process = subprocess.Popen(words, env=ON_CPU, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for(process, run / "last.pt")
        started = time.monotonic()
        process.terminate()
        process.communicate(timeout=ENDS_WITHIN_S)
        assert time.monotonic() - started < 25, "torchrun kills what does not end within 30 seconds"
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # all processes have ended
    finally:
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    step = torch.load(run / "last.pt", weights_only=True)["step"]
    assert step > 0

    # Fewer epochs, so that the resumed run is short.
    config = run / "config.yaml"
    epochs = step // 6 + 1
    config.write_text(config.read_text().replace("epochs: 2000", f"epochs: {epochs}"))
    resumed = run_detection("train", "--resume", str(run), "--loop.num_workers", "0")
    assert resumed.returncode == 0, resumed.stderr
    assert int(read_log(run)[-1]["step"]) == epochs * 6


def test_restarted_processes_resume(generated_root: Path, tmp_path: Path) -> None:
    """`torchrun --max-restarts`: one process is killed during training."""
    run = tmp_path / "run"
    words = torchrun(
        *words_of(generated_root, "--optim.batch_size", "4", "--run_dir", str(run), "--optim.epochs", "10")[1:]
    )
    words.insert(4, "--max-restarts=1")
    process = subprocess.Popen(words, env=ON_CPU, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for(process, run / "last.pt")
        step = torch.load(run / "last.pt", weights_only=True)["step"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, stderr = process.communicate(timeout=2 * ENDS_WITHIN_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, stderr
    assert 0 < step < 10 * 6
    assert stderr.count(f"run folder {run}") == 2, "the same folder after the restart"
    rows = read_log(run)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 11)), "each epoch once"


def test_restarted_processes_find_their_own_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun's value without --rdzv-id
    runs = [Path("runs") / "detection" / name for name in ("2026-01-01", "2026-01-02", "2026-01-03")]
    for run, process in zip(runs, (7, 8, 9), strict=True):
        run.mkdir(parents=True)
        monkeypatch.setattr(os, "getppid", lambda process=process: 10**9 + process)  # no such process
        write_launch_id(run)
    for process, found in ((8, runs[1]), (5, None)):
        monkeypatch.setattr(os, "getppid", lambda process=process: 10**9 + process)  # no such process
        assert find_restarted_run("detection", None, is_restarted=True) == found
        assert find_restarted_run("detection", str(runs[2]), is_restarted=True) is None
        assert find_restarted_run("detection", None, is_restarted=False) is None
    for run in runs[:2]:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "my_run")
        write_launch_id(run)
    assert find_restarted_run("detection", None, is_restarted=True) == runs[1], "the newest one"
    assert find_restarted_run("detection", None, is_restarted=False) is None
    assert find_restarted_run("detection", str(runs[0]), is_restarted=False) == runs[0], "a job that is started again"
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert find_restarted_run("detection", str(runs[0]), is_restarted=False) is None, "without torchrun"


def test_processes_of_a_start_agree_on_a_name_that_no_earlier_start_had() -> None:
    """Whoever comes first; the store still has all that earlier starts have written."""
    store, names = torch.distributed.HashStore(), []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        with ThreadPoolExecutor() as threads:
            found = []
            for rank in order:
                found.append(threads.submit(_agree_on_name, store, rank, 3))
                time.sleep(0.06)
        (name,) = {future.result() for future in found}
        names.append(name)
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("setting", "device", "images_per_process", "is_shared"),
    [
        (None, "cuda", 8, True),
        (None, "cuda", 16, False),
        (None, "cpu", 8, False),
        (True, "cuda", 64, True),
        (False, "cuda", 2, False),
    ],
)
def test_batch_norm_is_synchronised_if_processes_have_few_images(
    setting: bool | None, device: str, images_per_process: int, is_shared: bool
) -> None:
    optim = OptimConfig(sync_batch_norm=setting, freeze_bn=True)
    model = synchronize_batch_norm(MobileNet(0.25), optim, torch.device(device), images_per_process)
    kinds = {type(module) for module in model.modules() if isinstance(module, _BatchNorm)}
    assert kinds == {nn.SyncBatchNorm if is_shared else nn.BatchNorm2d}
    set_trainable(model, [], [], freeze_bn=True)
    assert not any(module.training for module in model.modules() if isinstance(module, _BatchNorm))
    assert model.state_dict().keys() == MobileNet(0.25).state_dict().keys()


def test_a_cpu_cannot_synchronise_batch_norm() -> None:
    with pytest.raises(ValueError, match=r"optim\.sync_batch_norm: .* on GPUs only"):
        synchronize_batch_norm(nn.Identity(), OptimConfig(sync_batch_norm=True), torch.device("cpu"), 4)


def test_a_restarted_run_keeps_the_conventions_of_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restarted command gives the weights; the run's settings have their conventions."""
    from tasks.common.runs.folder import check_unchanged
    from tasks.common.runs.pretrained import with_settings_of

    made = DetectionConfig(pretrained="keras", backbone=BackboneConfig(conventions="keras"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(made)))
    again = DetectionConfig(pretrained="keras")
    with pytest.raises(ValueError, match=r"backbone\.conventions"):
        check_unchanged(dataclasses.asdict(again), tmp_path / "config.yaml")
    assert with_settings_of(again, tmp_path) == made
    check_unchanged(dataclasses.asdict(with_settings_of(again, tmp_path)), tmp_path / "config.yaml")


def test_a_run_killed_before_its_settings_were_written_gets_them(
    generated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "my_run")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    run = tmp_path / "run"
    run.mkdir()
    write_launch_id(run)
    done = train_detection(generated_root, "--run_dir", str(run), "--optim.epochs", "1")
    assert done.returncode == 0, done.stderr
    assert {"config.yaml", "metadata.json", "metrics.json"} <= {path.name for path in run.iterdir()}


@pytest.mark.filterwarnings("ignore:.*is left out")
@pytest.mark.parametrize("kind", [LeftOut, LeftOutInTraining])
def test_unreadable_images_of_all_processes_count_together(kind: type[LeftOut]) -> None:
    class Two(World):
        def all_gather(self, value: Any) -> list[Any]:
            return [value, (other.broken, other.empty)]

    own, other = (UnreadableImages(100, 0.05, kind) for _ in range(2))
    for process, name in ((own, "own"), (other, "other")):
        process.add(Unreadable(f"{name} {row}") for row in range(4))
        process.add([Unreadable("both"), Unreadable("empty", is_empty=True)])
    assert own.problem is None
    num_broken, num_empty = (9, 1) if kind is LeftOutInTraining else (10, 2)
    for _ in range(1 + (kind is LeftOutInTraining)):  # at the end of each epoch
        with pytest.raises(ValueError, match=f"{num_broken} of 100 images are unreadable.*the last one: both$"):
            own.merge_processes(Two(0, 2))
        assert own.empty.num_images == num_empty


def test_gradients_of_gathered_rows_are_summed_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process has half of the rows; a tensor that is not gathered gets its gradient once."""
    monkeypatch.setattr("torch.distributed.all_gather", lambda parts, rows: [part.copy_(rows) for part in parts])
    monkeypatch.setattr("torch.distributed.all_reduce", lambda gradient: gradient.mul_(2))
    rows, other = torch.randn(3, 2, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    (World(0, 2).all_rows(rows) + other * 1).sum().backward()
    assert torch.equal(other.grad, torch.ones(6, 2))  # type: ignore[arg-type]
    assert torch.equal(rows.grad, torch.full((3, 2), 2.0))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("case", [case for case in CASES if case != "faster_rcnn"])
def test_no_step_waits_for_the_gpu(case: str, roots: dict[str, str]) -> None:
    objective = CASES[case](roots)
    dataset, device = objective.training_set(), torch.device("cuda")
    batch = build_batch([dataset[Key(0, row)] for row in range(8)], objective.collate()).pin_memory()
    model = objective.build_model().to(device, memory_format=torch.channels_last).train()
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    state = TrainingState(model, EmaModel(model, 0.9), build_optimizer(model, OptimConfig()), scaler)
    for mode in ("default", "error"):  # cuDNN benchmarks its algorithms in the first step
        torch.cuda.set_sync_debug_mode(mode)
        try:
            train_step(objective, model, state, [batch], lr=0.01, clip_norm=1.0, dtype=None, world=SINGLE_PROCESS)
        finally:
            torch.cuda.set_sync_debug_mode("default")
