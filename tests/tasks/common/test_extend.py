"""`train --extend RUN`: a new run that starts from all weights of an earlier one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tasks.common.runs.extend import _evaluated
from tests.tasks.common.runs import EPOCHS, read_log, run_detection, train_detection


@pytest.fixture(scope="module")
def finished(generated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned something, at the end of its schedule."""
    run = tmp_path_factory.mktemp("finished") / "run"
    words = ("--optim.epochs", "8", "--optim.name", "adamw", "--optim.lr", "0.003", "--optim.ema_decay", "null")
    done = train_detection(generated_root, *words, "--run_dir", str(run))
    assert done.returncode == 0, done.stderr
    return run


def test_the_loss_goes_on_where_it_was(finished: Path, tmp_path: Path) -> None:
    losses = [float(row["loss"]) for row in read_log(finished)]
    assert losses[-1] < 0.75 * losses[0]
    words = ("train", "--extend", str(finished), "--optim.epochs", "3", "--run_dir", str(tmp_path / "more"))
    done = run_detection(*words)
    assert done.returncode == 0, done.stderr
    start, *epochs = read_log(tmp_path / "more")
    assert (start["epoch"], start["AP"]) == ("0", read_log(finished)[-1]["AP"])  # nothing is lost
    more = [float(row["loss"]) for row in epochs]
    assert len(more) == 3
    assert abs(more[0] - losses[-1]) < 0.2 * (losses[0] - losses[-1])
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("training ")]
    last = read_log(finished)[-1]
    facts = f"(epoch 8, loss {float(last['loss']):.4g}, AP {float(last['AP']):.4g})"
    assert line == (
        f"training {finished} further: 3 epochs from all its last weights {facts}; the optimiser starts anew, so the "
        "learning rate rises to 0.003 within 1 epoch, then falls to 0 (optim.lr, optim.warmup_epochs and "
        "optim.schedule change that)"
    )
    settings, before = (yaml.safe_load((run / "config.yaml").read_text()) for run in (tmp_path / "more", finished))
    before["optim"]["epochs"] = 3
    before["pretrained"], before["backbone"]["conventions"] = str(finished), "keras"
    assert settings == before


def test_the_first_step_starts_from_the_whole_network(finished: Path, tmp_path: Path) -> None:
    """With a learning rate of almost nothing the weights stay those of the run."""
    words = ("--optim.epochs", "1", "--optim.lr", "1e-12", "--optim.weight_decay", "0", "--optim.freeze_bn", "true")
    run = tmp_path / "still"
    assert run_detection("train", "--extend", str(finished), *words, "--run_dir", str(run)).returncode == 0
    before, after = (torch.load(folder / "last.pt", weights_only=True)["model"] for folder in (finished, run))
    for name, value in before.items():
        if value.is_floating_point():
            torch.testing.assert_close(after[name], value, rtol=0, atol=1e-8)


def test_an_extended_run_is_resumed_without_the_first_one(finished: Path, tmp_path: Path) -> None:
    first, more = tmp_path / "first", tmp_path / "more"
    shutil.copytree(finished, first)
    words = ("train", "--extend", str(first), "--optim.epochs", "1", "--run_dir", str(more))
    assert run_detection(*words).returncode == 0
    shutil.rmtree(first)
    assert run_detection("train", "--resume", str(more)).returncode == 0
    assert run_detection("evaluate", "--run", str(more)).returncode == 0


def test_restarted_processes_resume_the_extended_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torchrun --max-restarts` gives the same command again."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "my_run")
    words = ("train", "--extend", str(finished), "--optim.epochs", "1", "--run_dir", str(tmp_path / "more"))
    done = run_detection(*words)
    assert done.returncode == 0, done.stderr
    weights = torch.load(tmp_path / "more" / "last.pt", weights_only=True)["model"]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    again = run_detection(*words)
    assert again.returncode == 0, again.stderr
    assert "training " not in again.stderr
    after = torch.load(tmp_path / "more" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(after[name], value) for name, value in weights.items())


def test_resume_with_more_epochs_says_how_to_go_on(unbroken: Path) -> None:
    failed = run_detection("train", "--resume", str(unbroken), "--optim.epochs", str(EPOCHS + 4))
    assert failed.returncode == 1
    assert failed.stderr.endswith(f"train it further in a new run: train --extend {unbroken} --optim.epochs 4\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbone.name", "mobilenet_0.5"), "backbone: --extend keeps the one of {run}, mobilenet_0.25; "),
        (("--ssd.neck", "fpn"), "--extend: {run} does not fit the settings: "),
        (("--resume", "{run}"), "--extend: makes a new run, and --resume continues one; give one of them"),
    ],
)
def test_what_does_not_fit_is_refused(finished: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    filled = [word.format(run=finished) for word in words]
    done = run_detection("train", "--extend", str(finished), *filled, "--run_dir", str(tmp_path / "new"))
    assert done.returncode == 1
    assert f"error: {message.format(run=finished)}" in done.stderr
    assert not (tmp_path / "new").exists()


def test_other_classes_are_refused(finished: Path, generated_root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(generated_root, data)
    for file in (data / "annotations").iterdir():
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = "another"
        file.write_text(json.dumps(content))
    words = ("--data.root", str(data), "--run_dir", str(tmp_path / "new"))
    done = run_detection("train", "--extend", str(finished), *words)
    assert done.returncode == 1
    assert f"--extend: the class_names of {finished} are not those of the data; --pretrained" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("ema_decay", ["0.9", "null"])
def test_the_evaluated_weights_are_the_start(generated_root: Path, tmp_path: Path, ema_decay: str) -> None:
    """The EMA's if there are any: they are those of the best checkpoint, where that is the last epoch's."""
    run = tmp_path / "run"
    words = ("--optim.epochs", "1", "--optim.ema_decay", ema_decay, "--run_dir", str(run))
    assert train_detection(generated_root, *words).returncode == 0
    weights = _evaluated(torch.load(run / "last.pt", weights_only=True))
    best = torch.load(run / "best.pt", weights_only=True)["model"]
    assert weights.keys() == best.keys()
    assert all(torch.equal(weights[name], value) for name, value in best.items())


def test_layers_of_a_distillation_are_left_out() -> None:
    content = {"model": {"network.a": torch.ones(1), "projection.b": torch.ones(1)}, "ema": None}
    assert _evaluated(content).keys() == {"a"}
