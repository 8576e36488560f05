"""Generated folders, and files that are damaged: what a reader of data sets may be given.

The law for every reader: what it is given it reads, or it raises a ValueError that names the file or the folder.
`HYPOTHESIS_PROFILE=thorough` tries 2,000 examples a test (`tests/conftest.py`).
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

from datasets.splits import SplitData

JPEG = bytes(cv2.imencode(".jpg", np.full((6, 8, 3), 90, np.uint8))[1])
USUAL = (
    *("train", "Train", "training", "val", "valid", "Validation", "test", "TEST", "dev", "images", "labels", "0", "1"),
    *("cat", "Cat", "dog", "n01440764", "person 1", "__MACOSX", ".hidden", "@eaDir", "classes.txt", "README.md"),
    *("a.jpg", "b.JPG", "c.jfif", "d.png", "e.gif", "f.heic", "Thumbs.db", "a", "a.txt", "a.json", "a.csv", "a.xml"),
)
# Anything that a file may be called on Linux, also what is not UTF-8.
odd_names = st.one_of(
    st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12),
    st.binary(min_size=1, max_size=8).filter(lambda name: not set(name) & {0, 47}).map(os.fsdecode),
).filter(lambda name: name not in (".", ".."))
names = st.one_of(st.sampled_from(USUAL), st.sampled_from(USUAL), odd_names)
contents = st.one_of(st.just(JPEG), st.just(b""), st.binary(max_size=40), st.text(max_size=40).map(str.encode))


def trees(
    file_names: st.SearchStrategy[str] = names, file_contents: st.SearchStrategy[bytes] = contents
) -> st.SearchStrategy[dict[str, bytes]]:
    """Files below a folder: path -> content. A path that is a folder too is left out by `written`."""
    paths = st.lists(file_names, min_size=1, max_size=4).map("/".join)
    return st.dictionaries(paths, file_contents, max_size=12)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with up to four edits: parts of it removed, doubled, moved, or replaced by other bytes or usual words."""
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 12)))
        part = content[start:stop]
        new = draw(
            st.one_of(
                st.just(b""),
                st.just(2 * part),
                st.binary(max_size=6),
                st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
                st.sampled_from(
                    [b"0", b"-1", b"1e999", b"nan", b"9" * 30, b",", b";", b"\t", b"\n", b"\0", b"\xff", b'"']
                ),
            )
        )
        content = content[:start] + new + content[stop:]
    return content


@contextmanager
def written(tree: Mapping[str, bytes]) -> Iterator[Path]:
    """The files in a new folder; those whose path is taken by a folder, or too long, are left out."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        for name, content in tree.items():
            try:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content)
            except OSError:
                continue
        yield root


def read_or_named(root: Path, open_data: Callable[[Path], SplitData[Any]]) -> bool:
    """Check the law for a reader; returns whether something was read."""
    try:
        data = open_data(root)
    except ValueError as error:
        _check_error(error, root)
        return False
    assert data.found
    was_read = False
    for split in data.names:
        try:
            source = data[split]
        except ValueError as error:
            _check_error(error, root)
            continue
        was_read = True
        assert len(source) > 0
        assert all(isinstance(line, str) for line in source.warnings)
        for row in (0, len(source) - 1):
            source.truth(row)
            assert source.id(row).startswith(str(root))
    return was_read


def _check_error(error: ValueError, root: Path) -> None:
    assert type(error).__module__.startswith(("builtins", "datasets")), repr(error)
    assert not isinstance(error, UnicodeError), repr(error)
    assert str(root) in str(error), str(error)
