"""The members of a tar file.

Not by Python's tarfile, which takes minutes for a million of them, and for an extended header of a megabyte, too (its
search is quadratic before Python 3.11.10 and 3.12.6, CVE-2024-6232); nor by libarchive, which tells no offsets.

Format: POSIX.1-2017, pax, "pax Interchange Format" and "ustar Interchange Format"; GNU tar 1.35, "Basic Tar Format".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 512
MAX_EXTENDED_BYTES = 1 << 20  # of a header with a long name
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = (b"x", b"X"), b"g", b"L", b"K"
_EXTENDED = (*_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK)
_FILES, _OLD_FILE, _SPARSE = (b"0", b"\0", b"7"), b"\0", b"S"
# Links, devices, folders, pipes; whatever size their header states.
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_MAX_DIGITS = 20


class Member(NamedTuple):
    """A file in a tar file: its name, and offset and size in bytes of its data."""

    name: bytes
    offset: int
    size: int


class TruncatedTarError(ValueError):
    """A tar file that ends too early, or is damaged after its first members."""


class _Extended(NamedTuple):
    """What extended headers say about the next member, if anything."""

    name: bytes | None = None
    size: int | None = None
    is_sparse: bool = False


_NOTHING = _Extended()


def read_members(path: Path, name: str) -> Iterator[Member]:
    """Each regular file in a tar file, in their order; sparse files, links and others are passed over.

    Args:
        path: the file.
        name: for messages.

    Raises:
        ValueError: naming the file, if it cannot be opened or is no tar file.
        TruncatedTarError: after the members before the damage.
    """
    try:
        with path.open("rb") as file:
            header = file.read(BLOCK_BYTES)
            if not header or (any(header) and member_size(header) is None):
                raise ValueError(f"{name}: not a tar file, or a compressed or damaged one")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from _members(name, data)
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}; expected a tar file") from error


def _members(name: str, data: mmap.mmap) -> Iterator[Member]:
    position, extended = 0, _NOTHING
    while any(header := data[position : position + BLOCK_BYTES]):
        size, kind = member_size(header), header[156:157]
        if size is None:
            raise TruncatedTarError(f"{name}: damaged after {position:,} bytes")
        offset = position + BLOCK_BYTES
        if kind in _EXTENDED:
            if size > MAX_EXTENDED_BYTES:
                raise TruncatedTarError(
                    f"{name}: an extended header of {size:,} bytes after {position:,} bytes; expected at most "
                    f"{MAX_EXTENDED_BYTES:,}"
                )
            content = data[offset : offset + size]
            if len(content) < size:
                raise TruncatedTarError(f"{name}: it ends in a header, after {position:,} bytes")
            try:
                extended = _extended(extended, kind, content)
            except ValueError as error:
                raise TruncatedTarError(f"{name}: damaged after {position:,} bytes ({error})") from error
            position = offset + _padded(size)
            continue
        if extended.size is not None:
            size = extended.size
        member_name = _name(header) if extended.name is None else extended.name
        is_empty = kind in _WITHOUT_DATA or (kind == _OLD_FILE and member_name.endswith(b"/"))
        if kind == _SPARSE:
            offset = _after_map(data, header, offset)
        if is_empty:
            size = 0
        if offset + size > len(data):
            lost = ascii(member_name[:100].decode(errors="replace"))
            raise TruncatedTarError(f"{name}: it ends in {lost}, after {position:,} bytes")
        if kind in _FILES and not is_empty and not extended.is_sparse:
            yield Member(member_name, offset, size)
        position, extended = offset + _padded(size), _NOTHING
    if len(header) < BLOCK_BYTES:  # not the blocks of zeros that end every tar file
        raise TruncatedTarError(f"{name}: it ends too early, after {min(position, len(data)):,} bytes")


def member_size(header: bytes) -> int | None:
    """The size in a header; None if its checksum is wrong."""
    try:
        checksum, size = _number(header[148:156]), _number(header[124:136])
    except ValueError:
        return None
    if size < 0 or len(header) < BLOCK_BYTES:
        return None
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if checksum == total:
        return size
    counted = header[:148] + header[156:]
    return size if checksum == total - 256 * sum(byte > 127 for byte in counted) else None  # of signed bytes


def _number(field: bytes) -> int:
    if field[:1] in (b"\x80", b"\xff"):  # GNU's, for what has more than eleven octal digits
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return b"/".join([prefix, name]) if prefix else name


def _extended(before: _Extended, kind: bytes, content: bytes) -> _Extended:
    """With what one more header says; global ones say nothing of single files."""
    if kind == _LONG_NAME:
        return before._replace(name=content.partition(b"\0")[0])
    if kind not in _PAX:
        return before
    position = 0
    while position < len(content) and content[position]:
        digits = content[position : position + _MAX_DIGITS].partition(b" ")[0]
        end = position + int(digits)
        key, equals, value = content[position + len(digits) + 1 : end].partition(b"=")
        if not equals or end > len(content) or not value.endswith(b"\n"):
            raise ValueError("a malformed extended header")
        if key == b"path":
            before = before._replace(name=value[:-1] or None)  # an empty value takes an earlier one back
        elif key == b"size":
            if value == b"\n":
                before = before._replace(size=None)
            elif len(value) > _MAX_DIGITS or not value[:-1].isdigit():
                raise ValueError("a size that is no number")
            else:
                before = before._replace(size=int(value))
        elif key.startswith(b"GNU.sparse."):
            before = before._replace(is_sparse=True)
        position = end
    return before


def _after_map(data: mmap.mmap, header: bytes, offset: int) -> int:
    """Where the data of GNU's sparse file begin: behind the blocks that say where they belong."""
    is_more = header[482]
    while is_more and offset < len(data):
        is_more = data[min(offset + 504, len(data) - 1)]
        offset += BLOCK_BYTES
    return offset


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
