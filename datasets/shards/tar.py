"""The members of a tar file, fast: Python's tarfile takes minutes for a million of them."""

from __future__ import annotations

import mmap
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

BLOCK_BYTES = 512
_EXTENDED = b"x"
# What an extended header (pax) can say that changes where a member is, or what it is called.
_CHANGES = (b" path=", b" size=", b" GNU.", b" linkpath=")


class Member(NamedTuple):
    """A file in a tar file: its name, and offset and size in bytes of its data."""

    name: bytes
    offset: int
    size: int


class TruncatedTarError(ValueError):
    """A tar file that ends too early, or is damaged after its first members."""


def read_members(path: Path, name: str) -> Iterator[Member]:
    """Each file in a tar file, in their order.

    Args:
        path: the file.
        name: for messages.

    Raises:
        ValueError: naming the file, if it cannot be opened or is no tar file.
        TruncatedTarError: after the members before the damage.
    """
    expected = f"{name}: not a tar file, or a compressed or damaged one"
    try:
        with path.open("rb") as file:
            try:
                archive = tarfile.TarFile(fileobj=file)
            except Exception as error:  # of many types, since headers have numbers and texts of any kind
                raise ValueError(f"{expected} ({error})") from error
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield from _members(name, data, archive, file)
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}; expected a tar file") from error


def _members(name: str, data: mmap.mmap, archive: tarfile.TarFile, file: BinaryIO) -> Iterator[Member]:
    archive.next()  # the first member, which it has read to see what the file is
    position = 0
    while any(header := data[position : position + BLOCK_BYTES]):
        member, end = _plain_member(data, position) or _any_member(name, archive, file, position)
        if end <= position or member.offset + member.size > len(data):
            lost = member.name[:100].decode(errors="replace") or "a header"
            raise TruncatedTarError(f"{name}: it ends in {lost}, after {position:,} bytes of whole members")
        if member.name:
            yield member
        position = end
    if len(header) < BLOCK_BYTES:  # not the blocks of zeros that end every tar file
        raise TruncatedTarError(f"{name}: it ends too early, after {min(position, len(data)):,} bytes")


def _plain_member(data: mmap.mmap, position: int) -> tuple[Member, int] | None:
    """A regular file whose headers say nothing unusual, and where it ends; None for all else, and for faulty headers.

    Format: POSIX.1-2017, pax, "ustar Interchange Format".
    """
    header = data[position : position + BLOCK_BYTES]
    if header[156:157] == _EXTENDED:  # such as the fraction of a second in the time of change, by webdataset
        size = member_size(header)
        start = position + BLOCK_BYTES
        if size is None or size > BLOCK_BYTES or any(word in data[start : start + size] for word in _CHANGES):
            return None
        position = start + BLOCK_BYTES
        header = data[position : position + BLOCK_BYTES]
    size = member_size(header)
    if size is None or header[156:157] not in (b"0", b"\0"):
        return None
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    offset = position + BLOCK_BYTES
    return Member(b"/".join([prefix, name]) if prefix else name, offset, size), offset + _padded(size)


def member_size(header: bytes) -> int | None:
    """The size in a header; None if its checksum is wrong."""
    try:
        checksum, size = (int(field.strip(b"\0 "), 8) for field in (header[148:156], header[124:136]))
    except ValueError:
        return None
    return size if size >= 0 and checksum == sum(header) - sum(header[148:156]) + 8 * ord(" ") else None


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _any_member(name: str, archive: tarfile.TarFile, file: BinaryIO, position: int) -> tuple[Member, int]:
    """A member with the headers of any tar format, and where it ends; without a name if it is no file."""
    archive.members.clear()  # type: ignore[attr-defined]  # else it keeps all of them
    try:
        file.seek(position)
        archive.offset = position
        member = archive.next()
    except Exception as error:  # of many types, since headers have numbers and texts of any kind
        raise TruncatedTarError(f"{name}: damaged after {position:,} bytes ({' '.join(str(error).split())})") from error
    if member is None:
        raise TruncatedTarError(f"{name}: damaged after {position:,} bytes")
    if not member.isreg() or member.issparse():
        return Member(b"", member.offset_data, 0), archive.offset
    return Member(member.name.encode("utf-8", "surrogateescape"), member.offset_data, member.size), archive.offset
