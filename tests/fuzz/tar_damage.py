"""Hostile tar files: members of other kinds, names that lead out, sizes that are not true, compressed ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress

from tests.fuzz.damage import TAR_BLOCK, Tree, damaged_tree, with_tar_checksums

SECRET = "secret.png"  # what lies around the folder, to which links lead
NAMES = (
    "/etc/passwd",
    f"../{SECRET}",
    f"../../../{SECRET}",
    "/a0.jpg",
    "./a0.jpg",
    "a0.jpg/../b0.jpg",
    "a//b0.jpg",
    "",
    ".",
    "/",
    ".jpg",
    "x" * 99 + ".jpg",
    f"{'x' * 300}.jpg",
    f"{'x/' * 700}.jpg",
    "\u00e4\u4e2d.jpg",
    "\udcff.jpg",
    "a\n.jpg",
    "a0.jpg ",
    "A0.JPG",
    "c:\\a0.jpg",
    "%2e%2e/x.jpg",
)
KINDS = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE),
    *(tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.AREGTYPE, b"V", b"\xff"),
)
SIZES = (0, 1, 511, 512, 513, 2**20, 2**33, 2**63 - 512, 2**63, 2**64, 2**94, -1, -512, -1024)
PAX = (
    *("path", "linkpath", "size", "comment", "mtime", "uid", "charset", "hdrcharset", "GNU.sparse.major"),
    *("GNU.sparse.minor", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.map", "GNU.sparse.name"),
    *("GNU.sparse.numblocks", "GNU.sparse.offset", "SCHILY.realsize"),
)
PAX_VALUES = ("0", "-1", "1", "512", "1e9", "99999999999999999999", "0,1,2,3", "x", "", "\n", "9" * 5000, *NAMES[:6])
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
Part = tuple[tarfile.TarInfo, bytes]


def damaged_shards(tree: Tree, rng: random.Random) -> Tree:
    """A copy of the files with bytes and words changed, or one of its tar files written anew with hostile members."""
    if rng.random() < 0.4:
        return damaged_tree(tree, rng)
    name = rng.choice([name for name in tree if name.endswith(".tar")])
    changed = tree | {name: _hostile(tree[name], rng)}
    if rng.random() < 0.5:
        changed = {name: data for name, data in changed.items() if not name.endswith(".index.safetensors")}
    return damaged_tree(changed, rng) if rng.random() < 0.2 else changed


def _hostile(data: bytes, rng: random.Random) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        parts = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    format_ = rng.choice(FORMATS)
    file = bytearray()
    changed = rng.sample(range(len(parts)), min(rng.randint(1, 3), len(parts)))
    changes = {place: rng.choice(CHANGES) for place in changed}
    for place, part in enumerate(parts):
        file += changes[place](part, rng, format_) if place in changes else _plain(part, format_)
    return _ended(bytes(file), rng)


def _plain(part: Part, format_: int) -> bytes:
    member, content = part
    return _header(member, format_) + content + bytes(-len(content) % TAR_BLOCK)


def _header(member: tarfile.TarInfo, format_: int) -> bytes:
    for form in (format_, tarfile.PAX_FORMAT):  # which has all names
        with suppress(ValueError, UnicodeError):
            return member.tobuf(form, errors="surrogateescape")
    return member.replace(name="x.jpg", linkname="").tobuf(tarfile.PAX_FORMAT)


def _other_name(part: Part, rng: random.Random, format_: int) -> bytes:
    member, content = part
    return _plain((member.replace(name=rng.choice(NAMES)), content), format_)


def _other_kind(part: Part, rng: random.Random, format_: int) -> bytes:
    """In place of the member, or before it."""
    member, content = part
    link = rng.choice((*NAMES, member.name, f"../../../../{SECRET}", "b0.jpg"))
    other = member.replace(linkname=link)
    other.type, other.devmajor, other.devminor = rng.choice(KINDS), rng.randrange(9), rng.randrange(9)
    if rng.random() < 0.5:
        other.size = rng.choice((0, 1, 512))
    found = _plain((other, content if rng.random() < 0.5 else b""), format_)
    return found if rng.random() < 0.5 else found + _plain(part, format_)


def _other_size(part: Part, rng: random.Random, format_: int) -> bytes:
    """In base 256 where it is too large for digits."""
    member, content = part
    data = bytearray(_plain((member, content), format_))
    size, start = rng.choice(SIZES), len(data) - TAR_BLOCK - (len(content) + -len(content) % TAR_BLOCK)
    is_octal = 0 <= size < 8**11 and rng.random() < 0.8
    field = b"%011o\0" % size if is_octal else size.to_bytes(12, "big", signed=True)
    if not is_octal and size >= 0:
        field = bytes([0x80]) + field[1:]
    data[start + 124 : start + 136] = field
    return with_tar_checksums(bytes(data))


def _pax(part: Part, rng: random.Random, format_: int) -> bytes:
    """With an extended header, whose lengths may not be true, for itself or for all that follow."""
    lines = b""
    for key in rng.choices(PAX, k=rng.randint(1, 4)):
        line = f" {key}={rng.choice(PAX_VALUES)}\n".encode("utf-8", "surrogateescape")
        length = len(line) + 2 if rng.random() < 0.8 else rng.choice((0, 1, 10**6, 10**18))
        lines += b"%02d" % length + line
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = rng.choice((tarfile.XHDTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE)), len(lines)
    return _plain((header, lines), tarfile.USTAR_FORMAT) * rng.choice((1, 1, 2, 500)) + _plain(part, format_)


def _twice(part: Part, rng: random.Random, format_: int) -> bytes:
    return _plain(part, format_) * rng.choice((2, 2, 200))


CHANGES: tuple[Callable[[Part, random.Random, int], bytes], ...] = (
    _other_name,
    _other_kind,
    _other_size,
    _pax,
    _twice,
)


def _ended(data: bytes, rng: random.Random) -> bytes:
    """Now and then without its end, twice, or compressed."""
    chance, whole = rng.random(), data + bytes(2 * TAR_BLOCK)
    if chance < 0.8:
        return whole
    if chance < 0.85:
        return data
    if chance < 0.9:
        return whole + whole
    return rng.choice((gzip.compress, bz2.compress, lzma.compress))(whole)
