"""Settings, run folders, checkpoints and exports of earlier versions still load, and a line lists what was renamed."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml

from tasks.common.legacy import REMOVED_SETTINGS, RENAMED_SETTINGS, RENAMED_VALUES, upgrade_checkpoint, upgrade_settings
from tasks.common.settings import flatten
from tests.tasks.common.runs import Done, run_detection

# (old key, old value) -> (current key, current value): all that were ever renamed.
RENAMED = {
    ("optim.keep_statistics", True): ("optim.freeze_bn", True),
    ("optim.layers", "head"): ("optim.layers", "linear_probe"),
    ("loop.max_unreadable_share", 0.25): ("loop.max_unreadable_fraction", 0.25),
    ("data.val_share", 0.3): ("data.val_fraction", 0.3),
    ("data.crop_share", 0.9): ("data.crop_fraction", 0.9),
    ("data.name", "imagenet"): ("data.format", "imagenet"),
    ("ssd.maps", "halving"): ("ssd.neck", "extra_layers"),
    ("ssd.maps", "pyramid"): ("ssd.neck", "fpn"),
    ("backbone.pretrained", "keras"): ("pretrained", "keras"),
    ("show_score", 0.4): ("threshold", 0.4),
    ("alone", False): ("baseline", False),
    ("balance", 0.25): ("pos_weight_exponent", 0.25),
}


def nested(key: str, value: object) -> dict[str, Any]:
    group, _, name = key.rpartition(".")
    return {group: {name: value}} if group else {name: value}


@pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_an_old_setting_is_the_current_one_and_one_warning_names_both(
    old: tuple[str, object], new: tuple[str, object]
) -> None:
    others: dict[str, Any] = {"seed": 3, "optim": {"lr": 0.5}} if not old[0].startswith("optim.") else {"seed": 3}
    if "." in old[0] and "." not in new[0]:
        others[old[0].partition(".")[0]] = {}  # the group that the setting has left
    with pytest.warns(UserWarning, match="^mine.yaml: written by an earlier version: ") as warned:
        upgraded = upgrade_settings(others | nested(*old), "mine.yaml")
    assert upgraded == others | nested(*new)
    (warning,) = warned
    assert old[0] in str(warning.message)
    assert str(new[0] if old[0] != new[0] else new[1]) in str(warning.message)


@pytest.mark.parametrize("old", REMOVED_SETTINGS)
def test_a_setting_that_is_no_more_is_dropped_and_named(old: str) -> None:
    with pytest.warns(
        UserWarning, match=f"^mine.yaml: written by an earlier version: {old} test is no longer a setting: "
    ):
        assert upgrade_settings({"seed": 3} | nested(old, "test"), "mine.yaml") == {
            "seed": 3,
            old.partition(".")[0]: {},
        }


@pytest.mark.filterwarnings("ignore")
def test_an_old_name_beside_the_current_one_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"mine\.yaml: has optim\.keep_statistics and optim\.freeze_bn, its current name"
    ):
        upgrade_settings({"optim": {"keep_statistics": True, "freeze_bn": False}}, "mine.yaml")


def test_the_list_of_renamed_settings_is_tested_whole() -> None:
    assert {old: new for (old, _), (new, _) in RENAMED.items() if old != new} == RENAMED_SETTINGS
    old_values = {
        ("ssd.neck" if key == "ssd.maps" else key, value) for (key, value), (_, new) in RENAMED.items() if value != new
    }
    assert old_values == {(key, value) for key, values in RENAMED_VALUES.items() for value in values}


@pytest.mark.filterwarnings("error")
def test_current_settings_load_without_a_warning() -> None:
    settings = {"optim": {"freeze_bn": True, "layers": "linear_probe"}, "ssd": {"neck": "fpn"}, "data": None, "seed": 3}
    assert upgrade_settings(settings, "mine.yaml") == settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data.val_share", "0.2"), "data.val_share is now data.val_fraction"),
        (("--loop.max_unreadable_share", "0.2"), "loop.max_unreadable_share is now loop.max_unreadable_fraction"),
        (("--ssd.maps=pyramid",), "ssd.maps is now ssd.neck"),
        (("--optim.keep_statistics",), "optim.keep_statistics is now optim.freeze_bn"),
        (("--optim.layers", "head"), "optim.layers head is now linear_probe"),
    ],
)
def test_an_old_flag_is_an_error_with_the_current_name(words: tuple[str, ...], message: str) -> None:
    done = run_detection("train", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}; ")
    assert done.stderr.endswith("; --help lists the settings\n")


def test_tensors_of_a_checkpoint_keep_their_values() -> None:
    tensors = {"maps.extras.0.weight": 0, "head.centres": 1, "head.projection.0.weight": 2, "backbone.maps.weight": 3}
    current = {
        "neck.extras.0.weight": 0,
        "head.prototypes": 1,
        "head.projection.0.weight": 2,
        "backbone.maps.weight": 3,
    }
    ema = {"n_averaged": 4} | {f"module.{name}": value for name, value in tensors.items()}
    old = {"task": "embedding", "vocabulary": {"identities": ["a"]}, "model": tensors, "averaged": ema, "step": 5}
    assert upgrade_checkpoint(old | {"history": [{"epoch": 1, "wait_share": 0.5}]}) == {
        "task": "embedding",
        "metadata": {"identities": ["a"]},
        "model": current,
        "ema": {"n_averaged": 4} | {f"module.{name}": value for name, value in current.items()},
        "step": 5,
        "history": [{"epoch": 1, "wait_fraction": 0.5}],
    }
    distilled = {"model": {f"network.{name}": value for name, value in tensors.items()}, "averaged": None}
    assert upgrade_checkpoint(distilled) == {
        "model": {f"network.{name}": value for name, value in current.items()},
        "ema": None,
    }


@pytest.fixture
def old_run(unbroken: Path, tmp_path: Path) -> Path:
    """A run as an earlier version wrote it."""
    run = tmp_path / "old"
    shutil.copytree(unbroken, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    for group, old, new in (
        ("optim", "keep_statistics", "freeze_bn"),
        ("loop", "max_unreadable_share", "max_unreadable_fraction"),
        ("ssd", "maps", "neck"),
    ):
        settings[group][old] = settings[group].pop(new)
    settings["ssd"]["maps"] = {"extra_layers": "halving", "fpn": "pyramid"}[settings["ssd"]["maps"]]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    for file in ("best.pt", "last.pt"):
        torch.save(as_written_before(torch.load(run / file, weights_only=True)), run / file)
    (run / "previous.pt").unlink(missing_ok=True)
    return run


def as_written_before(content: Mapping[str, Any]) -> dict[str, Any]:
    old = {{"metadata": "vocabulary", "ema": "averaged"}.get(key, key): value for key, value in content.items()}
    for key in old.keys() & {"model", "averaged"}:
        names = {name: name.replace("neck.", "maps.") for name in old[key]}
        assert names.keys() != set(names.values())
        old[key] = {names[name]: tensor for name, tensor in old[key].items()}
    for row in old.get("history", []):
        row["wait_share"] = row.pop("wait_fraction")
    return old


def notes(done: Done) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


def test_an_old_run_is_evaluated_resumed_and_exported(unbroken: Path, old_run: Path, tmp_path: Path) -> None:
    note = (
        f"warning: {old_run / 'config.yaml'}: written by an earlier version: optim.keep_statistics is now "
        "optim.freeze_bn; loop.max_unreadable_share is now loop.max_unreadable_fraction; ssd.maps is now ssd.neck; "
        "ssd.neck halving is now extra_layers"
    )
    saved = json.loads((unbroken / "metrics.json").read_text())
    done = run_detection("evaluate", "--run", str(old_run), "--json", "--out", str(tmp_path / "scores"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["AP"] == pytest.approx(saved["AP"], abs=1e-9)
    assert notes(done) == [note]

    (old_run / "metrics.json").unlink()
    resumed = run_detection("train", "--resume", str(old_run))  # all epochs are done: it only ends
    assert resumed.returncode == 0, resumed.stderr
    assert notes(resumed) == [note]
    assert json.loads((old_run / "metrics.json").read_text()) == saved
    changed = run_detection("train", "--resume", str(old_run), "--ssd.neck", "fpn")
    assert changed.stderr.splitlines()[-1].startswith("error: ssd.neck: the run was started with 'extra_layers'")

    exported = tmp_path / "exported"
    assert run_detection("export", "--run", str(old_run), "--out", str(exported)).returncode == 0
    assert flatten(yaml.safe_load((exported / "config.yaml").read_text()))["ssd.neck"] == "extra_layers"


def test_an_old_config_file_and_an_old_export_load(unbroken: Path, old_run: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    assert run_detection("export", "--run", str(unbroken), "--raw", "--out", str(exported)).returncode == 0
    scores = json.loads(run_detection("evaluate", "--run", str(exported), "--json").stdout)
    model = onnx.load(exported / "model.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    properties["vocabulary"] = properties.pop("metadata")
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, exported / "model.onnx")
    shutil.copy(old_run / "config.yaml", exported / "config.yaml")
    done = run_detection("evaluate", "--run", str(exported), "--json", "--out", str(tmp_path / "scores"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == scores

    with contextlib.chdir(tmp_path):
        printed = run_detection("cost", "--config", "old/config.yaml", "--json")
    assert printed.returncode == 0, printed.stderr
    assert len(notes(printed)) == 1
    assert json.loads(printed.stdout) == json.loads(
        run_detection("cost", "--config", str(unbroken / "config.yaml"), "--json").stdout
    )
