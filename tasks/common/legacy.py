"""Names of earlier versions, so that older settings, runs and exports still load; the one module that knows them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

# Old key -> new key; a group and its settings are separated by a dot.
RENAMED_SETTINGS = {
    "optim.keep_statistics": "optim.freeze_bn",
    "loop.max_unreadable_share": "loop.max_unreadable_fraction",
    "data.val_share": "data.val_fraction",
    "data.crop_share": "data.crop_fraction",
    "data.name": "data.format",
    "ssd.maps": "ssd.neck",
    "backbone.pretrained": "pretrained",
    "show_score": "threshold",
    "alone": "baseline",
    "balance": "pos_weight_exponent",
}
# Old key -> what takes its place.
REMOVED_SETTINGS = {"data.validate_on": "evaluate --split test scores the test part"}
# Current key -> old value -> new value.
RENAMED_VALUES = {
    "optim.layers": {"head": "linear_probe"},
    "ssd.neck": {"halving": "extra_layers", "pyramid": "fpn"},
}
# Old verb -> new verb.
RENAMED_VERBS = dict.fromkeys(("peer", "evaluate_onnx"), "evaluate --pretrained FILE.onnx")
# Old subfolder -> new subfolder, of a distillation.
RENAMED_FOLDERS = {"alone": "baseline"}
_RENAMED_CONTENT = {"vocabulary": "metadata", "averaged": "ema"}
_RENAMED_COLUMNS = {"wait_share": "wait_fraction"}
_RENAMED_TENSORS = {"maps.": "neck.", "head.centres": "head.prototypes"}


def upgrade_settings(settings: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Settings with current names and values; a warning lists what was renamed.

    Args:
        settings: nested groups, as in a YAML file.
        origin: the file, for the warning.

    Raises:
        ValueError: if a setting has its old name and its current one.
    """
    upgraded = {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}
    notes = []
    for old, new in RENAMED_SETTINGS.items():
        group, key = _group_of(upgraded, old)
        if key in group:
            new_group, name = _group_of(upgraded, new)
            if name in new_group:
                raise ValueError(f"{origin}: has {old} and {new}, its current name; remove one")
            new_group[name] = group.pop(key)
            notes.append(f"{old} is now {new}")
    for old, instead in REMOVED_SETTINGS.items():
        group, key = _group_of(upgraded, old)
        if key in group:
            notes.append(f"{old} {group.pop(key)} is no longer a setting: {instead}")
    for name, values in RENAMED_VALUES.items():
        group, key = _group_of(upgraded, name)
        if isinstance(group.get(key), str) and group[key] in values:
            notes.append(f"{name} {group[key]} is now {values[group[key]]}")
            group[key] = values[group[key]]
    if notes:
        warnings.warn(f"{origin}: written by an earlier version: {'; '.join(notes)}", stacklevel=2)
    return upgraded


def renamed_flag(key: str, value: str, known: Collection[str]) -> str | None:
    """The current name of a setting given as a flag, or of its value, as a message; None if it was not renamed.

    Args:
        key: of the flag.
        value: that it has.
        known: the current settings.
    """
    if RENAMED_SETTINGS.get(key) in known:
        return f"{key} is now {RENAMED_SETTINGS[key]}"
    if key in REMOVED_SETTINGS and key not in known:
        return f"{key} is no longer a setting: {REMOVED_SETTINGS[key]}"
    new_value = RENAMED_VALUES.get(key, {}).get(value)
    return None if new_value is None else f"{key} {value} is now {new_value}"


def upgrade_checkpoint(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's content with current names."""
    upgraded = {_RENAMED_CONTENT.get(key, key): value for key, value in content.items()}
    for key in ("model", "ema"):
        if isinstance(upgraded.get(key), dict):
            upgraded[key] = {_upgrade_tensor(name): tensor for name, tensor in upgraded[key].items()}
    if "history" in upgraded:
        upgraded["history"] = [
            {_RENAMED_COLUMNS.get(column, column): value for column, value in row.items()}
            for row in upgraded["history"]
        ]
    return upgraded


def upgrade_folders(run: Path) -> None:
    """Give the subfolders of a run their current names, so that they are found when it is resumed."""
    for old, new in RENAMED_FOLDERS.items():
        if (run / old).is_dir() and not (run / new).exists():
            (run / old).rename(run / new)


def _group_of(settings: dict[str, Any], dotted: str) -> tuple[dict[str, Any], str]:
    """The group that a dotted key is in, empty where there is none, and its key there."""
    group, _, key = dotted.rpartition(".")
    inner = settings.get(group, {}) if group else settings
    return (inner if isinstance(inner, dict) else {}), key


def _upgrade_tensor(name: str) -> str:
    for old, new in _RENAMED_TENSORS.items():
        for wrapper in ("", "module.", "network.", "module.network."):  # of the EMA and of a distillation
            if name.startswith(wrapper + old):
                return wrapper + new + name.removeprefix(wrapper + old)
    return name
