"""Predictions by several processes, on one machine or several: each writes a part, and the last to end joins them.

They share nothing but the folder, so that each can be killed, started again and end at its own time.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets.files import atomic_write, read_json
from datasets.words import plural
from tasks.common.prediction.files import COMPLETE, RECORDS, UNFINISHED, SaveFormat, origin_of, write_coco_results
from tasks.common.prediction.source_list import SourceList

_COMMON = {"digest": "network or other settings", "formats": "--save", "inputs": "list of inputs"}
_ORIGIN = "what predict wrote; choose another folder"
_PART = re.compile(r"part-\d+-of-(\d+)")


class Parts:
    """The folder that several processes predict into.

    Attributes:
        folder: of all processes.
        own: the folder of this process.
        inputs: a digest of the inputs of all processes.
    """

    def __init__(self, folder: Path, rank: int, size: int, sources: SourceList) -> None:
        """The folder, which need not exist.

        Args:
            folder: of all processes.
            rank: of this one.
            size: number of processes.
            sources: of all of them.

        Raises:
            ValueError: if the folder has something else, or parts of another number of processes.
        """
        self.folder, self._size = folder, size
        self._parts = [folder / f"part-{number}-of-{size}" for number in range(1, size + 1)]
        self.own = self._parts[rank]
        with suppress(OSError):
            self.own.rmdir()  # empty: killed before it wrote anything
        self._num_inputs = len(sources)
        self.inputs = f"{self._num_inputs:,}, SHA-256 {sources.digest()[:16]}"
        found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        sizes = {int(match[1]) for match in map(_PART.fullmatch, found) if match is not None}
        if (folder.exists() and not folder.is_dir()) or (found and not sizes):
            raise ValueError(f"--out: {folder} exists already and is not overwritten; choose another folder")
        if sizes - {size}:
            raise ValueError(
                f"--out: {folder} has parts of {max(sizes - {size})} processes, and these are {size}; start as many, "
                "or choose another folder"
            )

    @property
    def is_complete(self) -> bool:
        """Whether this process's part is."""
        return (self.own / COMPLETE).is_file()

    def check(self, digest: str, formats: Collection[SaveFormat]) -> None:
        """Raise a ValueError if a part that has begun is of another network, other settings or other inputs."""
        self._compare(origin_of(digest, formats, self.inputs))

    def _compare(self, expected: dict[str, Any]) -> None:
        for part in self._parts:
            file = next((part / name for name in (COMPLETE, UNFINISHED) if (part / name).is_file()), None)
            found = expected if file is None else read_json(file, _ORIGIN)
            for key, what in _COMMON.items():
                if found.get(key) != expected[key]:
                    raise ValueError(
                        f"--out: {part} has another {what} ({found.get(key)}) than this process ({expected[key]}); all "
                        "processes need the same; start them alike, or choose another folder"
                    )

    def join(self, formats: Collection[SaveFormat]) -> list[str]:
        """Join the records of all parts if they are complete; returns the names of those that are not.

        Drawn pictures stay in the folders of the parts.

        Raises:
            ValueError: if nothing could be read in any part.
        """
        incomplete = [part.name for part in self._parts if not (part / COMPLETE).is_file()]
        if incomplete:
            return incomplete
        self._compare(read_json(self.own / COMPLETE, _ORIGIN))
        joined = self.own / "joined"  # in the process's own folder, as two may end at the same time
        joined.mkdir(exist_ok=True)
        with atomic_write(joined / RECORDS) as temporary, temporary.open("wb") as file:
            for part in self._parts:
                with (part / RECORDS).open("rb") as records:
                    shutil.copyfileobj(records, file)
        if (joined / RECORDS).stat().st_size == 0:
            raise ValueError(f"none of {plural(self._num_inputs, 'input')} could be read; see what each process says")
        if "coco" in formats:
            write_coco_results(joined)
        for path in joined.iterdir():
            os.replace(path, self.folder / path.name)
        joined.rmdir()
        return []
