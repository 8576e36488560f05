"""What is in a tar file: where its images are, and the texts beside them. Looked up once, then read from an index."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from datasets.files import atomic_write, cache_dir
from datasets.images.read import IMAGE_SUFFIXES
from datasets.shards.tar import BLOCK_BYTES, Member, TruncatedTarError, member_size, read_members
from datasets.shards.tars import INDEX_SUFFIX, RemoteTar, Tar

TextKind = Literal["json", "cls"]
VERSION = "1"
MIN_CACHED = 1000  # records: an index of fewer is built in milliseconds
MAX_NAME_BYTES = 1024  # all names are stored as long as the longest
MAX_TEXT_BYTES = 64 << 20  # of a record: COCO's outlines of a crowd
# Endings of masks, where a record has another image, too.
MASK_ENDINGS = (b"mask.png", b"seg.png", b"segmentation.png", b"label.png", b"labels.png", b"png")
_CONTROL = re.compile(rb"[\0-\x1f\x7f]")  # in names, which are in lines of messages
_IMAGE_ENDINGS = frozenset(suffix[1:].encode() for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True, eq=False)
class Texts:
    """A text for each of N records, as arrays; empty where a record has none.

    Attributes:
        data: uint8, all texts.
        ends: int64 (N,), where each ends in data.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Self:
        """The texts, in that order."""
        return cls(np.frombuffer(b"".join(texts), np.uint8), np.cumsum([len(text) for text in texts], dtype=np.int64))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each."""
        return np.diff(self.ends, prepend=0)

    def __getitem__(self, row: int) -> bytes:
        start = int(self.ends[row - 1]) if row else 0
        return self.data[start : int(self.ends[row])].tobytes()


@dataclass(frozen=True, eq=False)
class TarIndex:
    """The N records of a tar file that have an image, in its order.

    Attributes:
        num_bytes: of the tar file.
        names: bytes (N,), of the members that are images.
        image_spans: int64 (N, 2), offset and size in bytes of each image.
        mask_spans: int64 (N, 2), of the mask beside each; size 0 for none.
        texts: of `key.json`, and of `key.cls` or else `key.txt`.
        num_unused: members whose record has no image, that are there twice, or whose names are too long or no text.
        fault: what is missing of a truncated file, a line; empty for nothing.
    """

    num_bytes: int
    names: NDArray[np.bytes_]
    image_spans: NDArray[np.int64]
    mask_spans: NDArray[np.int64]
    texts: Mapping[TextKind, Texts]
    num_unused: int = 0
    fault: str = ""

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class _Columns:
    names: list[bytes] = field(default_factory=list)
    image_spans: list[tuple[int, int]] = field(default_factory=list)
    mask_spans: list[tuple[int, int]] = field(default_factory=list)
    texts: dict[TextKind, list[bytes]] = field(default_factory=lambda: {"json": [], "cls": []})


def load_index(tar: Tar | RemoteTar) -> TarIndex:
    """The index of a tar file: the one beside it, or that of an earlier run, or a new one.

    An index that is damaged, or is not that of the file, is passed over. A remote file is copied only for a new one.

    Raises:
        ValueError: if it cannot be read, or is no tar file.
    """
    path = tar.index_file()
    if path is not None and (index := read_index(path)) is not None and _fits(tar, index):
        return index
    file = tar.file()
    try:
        status = file.stat()
    except OSError as error:
        raise ValueError(f"{tar.name}: {error.strerror}; expected a tar file") from error
    about = f"{VERSION} {os.path.abspath(file)} {status.st_mtime_ns}"
    digest = hashlib.blake2b(about.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    cached = cache_dir() / "shards" / f"{digest}{INDEX_SUFFIX}"
    if (index := read_index(cached)) is not None and _fits(tar, index):
        return index
    index = build_index(file, tar.name)
    if len(index) < MIN_CACHED:
        return index
    with suppress(OSError):  # a full disk, or a cache folder that cannot be written to: it is built again next time
        write_index(cached, index)
    return index


def build_index(tar: Path, name: str | None = None) -> TarIndex:
    """The index of a tar file, from its headers and the texts in it.

    Members are of one record if they have the same name up to its first dot, as in WebDataset.

    Args:
        tar: the file.
        name: for messages; None for that of the file.

    Raises:
        ValueError: if it is no tar file.
    """
    groups: dict[bytes, dict[bytes, Member]] = {}
    num_unused, fault = 0, ""
    try:
        for member in read_members(tar, name or str(tar)):
            folder, slash, base = member.name.rpartition(b"/")
            stem, _, ending = base.partition(b".")
            ending = ending.lower()
            record = groups.setdefault(folder + slash + stem, {})
            is_used = stem and ending not in record and _is_name(member.name)
            num_unused += not is_used
            if is_used:  # without a stem it is hidden, as the files are that macOS adds
                record[ending] = member
    except TruncatedTarError as error:
        fault = str(error)
    columns = _Columns()
    with tar.open("rb") as file:
        for record in groups.values():
            pictures = [ending for ending in record if ending.rpartition(b".")[2] in _IMAGE_ENDINGS]
            mask = next((ending for ending in MASK_ENDINGS if ending in pictures), None) if len(pictures) > 1 else None
            image = next((ending for ending in pictures if ending != mask), None)
            if image is None:
                num_unused += len(record)
                continue
            columns.names.append(record[image].name)
            columns.image_spans.append(record[image][1:])
            columns.mask_spans.append((0, 0) if mask is None else record[mask][1:])
            label = b"cls" if b"cls" in record else b"txt"
            for kind, ending in (("json", b"json"), ("cls", label)):
                text = b""
                if ending in record and record[ending].size <= MAX_TEXT_BYTES:
                    file.seek(record[ending].offset)
                    text = file.read(record[ending].size)
                columns.texts[kind].append(text)  # type: ignore[index]
    return TarIndex(
        tar.stat().st_size,
        np.array(columns.names, np.bytes_),
        np.array(columns.image_spans, np.int64).reshape(-1, 2),
        np.array(columns.mask_spans, np.int64).reshape(-1, 2),
        {kind: Texts.of(texts) for kind, texts in columns.texts.items()},
        num_unused,
        fault,
    )


def _is_name(name: bytes) -> bool:
    return len(name) <= MAX_NAME_BYTES and not _CONTROL.search(name)


def write_index(path: Path, index: TarIndex) -> None:
    """Write an index, atomically."""
    width = max(index.names.dtype.itemsize, 1)
    arrays: dict[str, NDArray[Any]] = {
        "names": np.frombuffer(index.names.astype(f"S{width}").tobytes(), np.uint8).reshape(-1, width),
        "image_spans": index.image_spans,
        "mask_spans": index.mask_spans,
    }
    for kind, texts in index.texts.items():
        arrays |= {f"{kind}.data": texts.data, f"{kind}.ends": texts.ends}
    about = {"num_bytes": str(index.num_bytes), "num_unused": str(index.num_unused), "fault": index.fault}
    with atomic_write(path) as temporary:
        # Not by `save_file`, whose files no other user can read.
        temporary.write_bytes(safetensors.numpy.save(arrays, {"version": VERSION} | about))


def read_index(path: Path) -> TarIndex | None:
    """An index that was written; None if there is none, or it is damaged."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        names = np.ascontiguousarray(arrays["names"])
        index = TarIndex(
            int(about["num_bytes"]),
            names.view(f"S{names.shape[1]}")[:, 0],
            arrays["image_spans"],
            arrays["mask_spans"],
            {kind: Texts(arrays[f"{kind}.data"], arrays[f"{kind}.ends"]) for kind in ("json", "cls")},
            int(about["num_unused"]),
            about["fault"],
        )
    except Exception:  # of many types
        return None
    return index if about.get("version") == VERSION and _is_sound(index) else None


def _is_sound(index: TarIndex) -> bool:
    """Whether all of its offsets are within the files, and its names are such as `build_index` takes."""
    if any(map(_CONTROL.search, index.names.tolist())):
        return False
    for spans in (index.image_spans, index.mask_spans):
        is_integral = spans.dtype == np.int64 and spans.shape == (len(index), 2)
        if not is_integral or (spans < 0).any() or (spans > index.num_bytes).any():
            return False
        if (spans.sum(1) > index.num_bytes).any():
            return False
    return all(_are_sound(texts, len(index)) for texts in index.texts.values())


def _are_sound(texts: Texts, num_records: int) -> bool:
    if texts.data.dtype != np.uint8 or texts.data.ndim != 1 or texts.ends.dtype != np.int64:
        return False
    is_whole = texts.ends.shape == (num_records,) and (texts.ends[-1:] == len(texts.data)).all()
    return bool(is_whole and (np.diff(texts.ends, prepend=0) >= 0).all())


def _fits(tar: Tar | RemoteTar, index: TarIndex) -> bool:
    """Whether the size is that of the file, and the header before the first and the last image is where they say."""
    if isinstance(tar, RemoteTar):
        return index.num_bytes == tar.num_bytes
    try:
        with tar.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != index.num_bytes:
                return False
            for offset, size in index.image_spans[[0, -1]].tolist() if len(index) else ():
                file.seek(max(0, offset - BLOCK_BYTES))
                if member_size(file.read(BLOCK_BYTES)) != size:
                    return False
    except OSError:  # it is reported when it is read
        return False
    return True
