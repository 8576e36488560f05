"""What `data.yaml` says of a YOLO data set: the names of its classes and where the images of each split are.

Format: https://docs.ultralytics.com/datasets/detect#ultralytics-yolo-format. Paths in it are often those of another
machine or of Roboflow's server (`../train/images`), and are looked for below the data's own folder.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from datasets.detection.pairing import folders_of, parent
from datasets.files import whole_characters
from datasets.locate import locate, relative_name
from datasets.splits import SPLITS, split_named
from datasets.types import Split
from datasets.yaml_file import read_yaml

Listed = Mapping[str | None, Sequence[str]]  # files by kind, see `list_files`
_PREFERRED = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NOTHING = ("", "null", "~")


@dataclass
class YoloSettings:
    """What is known of a data set besides images and labels.

    Attributes:
        file: the YAML file; None if there is none.
        names: by class id; None if unknown.
        num_keypoint_values: numbers of each pose after its box; 0 for data without poses.
        splits: images of the splits that are named, relative to the root; without images where none were found.
        warnings: what was not found, or does not agree.
    """

    file: Path | None = None
    names: dict[int, str] | None = None
    num_keypoint_values: int = 0
    splits: dict[Split, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_settings(root: Path, listed: Listed) -> YoloSettings:
    """The settings in the folder's YAML file; without one, the splits that `train.txt`, `val.txt`, ... list.

    Raises:
        ValueError: naming the file, if it is the only one and not YAML, or its `names` or `kpt_shape` make no sense.
    """
    file, content = _find_yaml(root, listed)
    if file is None:
        settings = YoloSettings()
        entries: dict[str, Any] = {name: name for name in listed.get(".txt", []) if "/" not in name}
    else:
        names = _names(file, content.get("names"))
        settings = YoloSettings(file, names, _keypoint_values(file, content.get("kpt_shape")))
        count = content.get("nc")
        if names is not None and isinstance(count, str) and count.strip() != str(len(names)):
            settings.warnings.append(f"{file}: nc is {count:.20}, but there are {len(names)} names: the names are used")
        entries = content
    folder = parent(file.relative_to(root).as_posix()) if file else ""
    images = _Images(root, listed, folder, _text(content.get("path")))
    for key, value in entries.items():
        split = split_named(str(key).removesuffix(".txt"))
        for entry in value if isinstance(value, list) else [value]:
            if split is None or _text(entry) is None:
                continue
            found = images.find(str(entry))
            settings.splits.setdefault(split, []).extend(found or [])
            if found is None:
                settings.warnings.append(f"{file or root}: {key}: there is no folder or list {entry!r:.100} in {root}")
    settings.splits = {split: list(dict.fromkeys(names)) for split, names in settings.splits.items()}
    settings.warnings += [*images.warnings, *_repeated(file or root, settings.splits)]
    return settings


def class_names_file(root: Path, listed: Listed) -> Path | None:
    """The file of class names beside data without names in a YAML file: of LabelImg, darknet, Roboflow."""
    files = [name for name in listed.get(".txt", []) if name.split("/")[-1].lower() == "classes.txt"]
    files += [
        *listed.get(".names", []),
        *(name for name in listed.get(".labels", []) if name.endswith("_darknet.labels")),
    ]
    return root / min(files, key=lambda name: (name.count("/"), name)) if files else None


def read_names(file: Path) -> dict[int, str]:
    """The class names of a file with one in each line.

    Raises:
        ValueError: if there are none.
    """
    data = file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # as LabelImg writes it on Windows
        text = data.decode("cp1252", "replace")
    names = text.rstrip().split("\n")
    if names == [""]:
        raise ValueError(f"{file}: it is empty; expected a class name in each line")
    return {class_id: name.strip() or str(class_id) for class_id, name in enumerate(names)}


class _Images:
    """Finds the images of an entry for a split."""

    def __init__(self, root: Path, listed: Listed, folder: str, path: str | None) -> None:
        """Args: folder: of the YAML file, relative to root; path: by it, what its other paths are relative to."""
        self._root, self._folders = root, dict.fromkeys([f"{folder}/" if folder else "", ""])
        self._images, self._texts = listed.get(None, []), set(listed.get(".txt", []))
        self._path = _parts(path or "")
        self.warnings: list[str] = []

    def find(self, entry: str) -> list[str] | None:
        """The images of a folder or list, relative to the root; None if there is none of this name."""
        parts = _parts(entry)
        if not parts:
            return list(self._images)
        # Folders of another machine are cut off, but none that names a split: `../val/images` is not `images`.
        named = [number for number, part in enumerate(parts) if split_named(part)]
        last = len(self._path) + min(named, default=len(parts) - 1)
        whole = self._path + parts
        for folder, start in itertools.product(self._folders, range(last + 1)):
            name = folder + "/".join(whole[start:])
            if name in self._texts:
                return self._read_list(name)
            if images := self._below(name):
                return images
        return None

    def _below(self, folder: str) -> list[str]:
        images = [name for name in self._images if name.startswith(f"{folder}/")]
        return images or [name for name in self._images if name.lower().startswith(f"{folder.lower()}/")]

    def _read_list(self, name: str) -> list[str] | None:
        text = (self._root / name).read_text(encoding="utf-8-sig", errors="surrogateescape")
        names = [relative_name(line.strip()) for line in text.split("\n") if line.strip()]
        located, lines = locate(self._root, [".", *folders_of(self._images)], names, self._root / name)
        if set(self._images).isdisjoint(located):
            return None  # a list of something else
        self.warnings += lines
        return located


def _find_yaml(root: Path, listed: Listed) -> tuple[Path | None, dict[Any, Any]]:
    """The YAML file at the root that has class names, or one in a folder: archives often have all in a folder."""
    names = [*listed.get(".yaml", []), *listed.get(".yml", [])]
    names = [name for name in names if "/" not in name or name.rpartition("/")[2] in _PREFERRED]
    errors = []
    for name in sorted(names, key=lambda name: (name.count("/"), name not in _PREFERRED, name)):
        try:
            # All scalars are text: `names: [yes, no]` are names.
            content = read_yaml(root / name, yaml.BaseLoader)
        except ValueError as error:
            errors.append(error)
            continue
        if isinstance(content, dict) and ("names" in content or ("nc" in content and {"train", "val"} & set(content))):
            return root / name, content
    if errors:
        raise errors[0]
    return None, {}


def _names(file: Path, names: Any) -> dict[int, str] | None:
    if names is None or names in _NOTHING:
        return None
    if isinstance(names, str):
        try:
            return read_names(file.parent / relative_name(names))
        except (OSError, UnicodeEncodeError) as error:
            raise ValueError(f"{file}: names: expected a list or a file of class names, got {names!r:.60}") from error
    pairs = list(names.items()) if isinstance(names, dict) else list(enumerate(names))
    try:
        by_id = {int(class_id): _name(name) or str(class_id) for class_id, name in pairs}
    except (TypeError, ValueError):
        by_id = {}
    if not by_id or min(by_id) < 0 or max(by_id) >= 1 << 31:
        raise ValueError(f"{file}: names: expected a list of class names, or names by class id, got {names!r:.100}")
    return by_id


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return whole_characters(value.strip())


def _keypoint_values(file: Path, shape: Any) -> int:
    if shape is None or shape in _NOTHING:
        return 0
    try:
        count, dimension = (int(value) for value in shape)
    except (TypeError, ValueError):
        count = dimension = 0
    if not (1 <= count < 1 << 16 and dimension in (2, 3)):
        raise ValueError(f"{file}: kpt_shape: expected [number of keypoints, 2 or 3], got {shape!r:.60}")
    return count * dimension


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() not in _NOTHING else None


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"[\\/]", path) if part not in ("", ".", "..") and not part.endswith(":")]


def _repeated(origin: Path, splits: Mapping[Split, Sequence[str]]) -> Iterator[str]:
    """A warning for splits that have images of an earlier one."""
    seen: set[str] = set()
    for split in SPLITS:
        if count := len(seen.intersection(splits.get(split, []))):
            yield f"{origin}: {count:,} of the {len(splits[split]):,} images of {split} are in another split too"
        seen.update(splits.get(split, []))
