"""The work of several processes, on one machine or several: each writes a part, and the last to end joins them.

They share nothing but a folder, so that each can be killed, started again and end at its own time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets.files import read_json

UNFINISHED, COMPLETE = "unfinished.json", "part.json"  # what a part depends on, while it is written and afterwards
_COMMON = {"digest": "network or other settings", "formats": "--save", "inputs": "list of inputs"}
_ORIGIN = "what this command wrote; remove the folder"
_PART = re.compile(r"part-\d+-of-(\d+)")


class Parts:
    """A folder that several processes write into.

    Attributes:
        folder: of all processes.
        paths: the folders of their parts.
        own: the folder of this process.
    """

    def __init__(self, folder: Path, rank: int, size: int) -> None:
        """The folder, which need not exist.

        Args:
            folder: of all processes.
            rank: of this one.
            size: number of processes.

        Raises:
            ValueError: if the folder has something else, or parts of another number of processes.
        """
        self.folder = folder
        self.paths = [folder / f"part-{number}-of-{size}" for number in range(1, size + 1)]
        self.own = self.paths[rank]
        with suppress(OSError):
            self.own.rmdir()  # empty: killed before it wrote anything
        found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        sizes = {int(match[1]) for match in map(_PART.fullmatch, found) if match is not None}
        if (folder.exists() and not folder.is_dir()) or (found and not sizes):
            raise ValueError(f"--out: {folder} exists already and is not overwritten; choose another folder")
        if sizes - {size}:
            raise ValueError(
                f"--out: {folder} has parts of {max(sizes - {size})} processes, and now there are {size}; start as "
                "many, or remove the folder"
            )

    @property
    def is_complete(self) -> bool:
        """Whether this process's part is."""
        return (self.own / COMPLETE).is_file()

    @property
    def incomplete(self) -> list[str]:
        """The names of the parts that are not complete."""
        return [part.name for part in self.paths if not (part / COMPLETE).is_file()]

    def check(self, origin: Mapping[str, Any] | None = None) -> None:
        """Raise a ValueError if a part that has begun is of another origin; None for that of this process's part."""
        expected = read_json(self.own / COMPLETE, _ORIGIN) if origin is None else origin
        for part in self.paths:
            file = next((part / name for name in (COMPLETE, UNFINISHED) if (part / name).is_file()), None)
            found = expected if file is None else read_json(file, _ORIGIN)
            for key, value in expected.items():
                other = found.get(key) if isinstance(found, dict) else None
                if other != value:
                    raise ValueError(
                        f"--out: {part} has another {_COMMON[key]} ({other}) than this process ({value}); all "
                        f"processes need the same; start them alike, or remove {self.folder}"
                    )
