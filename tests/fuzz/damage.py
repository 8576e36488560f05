"""Damaged copies of small real files: bytes and words exchanged, parts cut, repeated or moved, checksums mended."""

from __future__ import annotations

import hashlib
import io
import math
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

Tree = dict[str, bytes]
# What a number, a name or a text in a file may be instead.
WORDS = (
    b"0",
    b"-1",
    b"1",
    b"2147483648",
    b"18446744073709551616",
    b"9" * 400,
    b"1e999",
    b"nan",
    b"-inf",
    b"0.5",
    b"1e-320",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"",
    b"a",
    b"\xff",
    b"\xc3\xa9",
    b"\\ud800",
    b"\0",
    b"\n",
    b"\r",
    b",",
    b'"',
    b"'",
    b"<",
    b">",
    b"&x;",
    b"[" * 2000,
    b'{"a":' * 500,
    b"../../x",
    b"/etc/passwd",
    b"..",
    b"*a",
    b"&a [*a]",
    b"!!python/object:os.system",
    b"!!timestamp 2020-99-99",
    b"%s",
    b"x" * 5000,
    b"\xef\xbb\xbf",
)
NUMBERS = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**24,
    2**28,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    -1,
)
# What a value in JSON or a checkpoint may be instead.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, math.nan, -math.inf, 2**31, 2**64, 10**400, 1e300),
    *("", "a", "x" * 5000, "../../x", "\0", "\n", "\ud800", "nan", [], {}, [[]], {"a": 1}, ["a", 1], [0.5] * 2000),
)
PNG, TAR_BLOCK, FAISS = b"\x89PNG\r\n\x1a\n", 512, b"IxM2"
_WORD = re.compile(rb"[\w.+-]+")


def damaged_tree(tree: Tree, rng: random.Random) -> Tree:
    """A copy of the files with one to four changes in them, and now and then one that is gone or called otherwise."""
    tree, names = dict(tree), sorted(tree)
    for _ in range(min(1 + int(rng.expovariate(1)), 4)):
        name = rng.choice(names)
        if name not in tree:
            continue
        chance = rng.random()
        if chance < 0.03 and len(tree) > 1:
            del tree[name]
        elif chance < 0.05:
            tree[rng.choice((f"{name}.x", f"x{name}", name.upper(), f"a/{name}"))] = tree.pop(name)
        elif chance < 0.07:
            tree[name] = tree.get(rng.choice(names), b"")
        else:
            tree[name] = damaged_file(tree[name], rng)
    return tree


def damaged_file(data: bytes, rng: random.Random) -> bytes:
    """One change, in a member of a zip file too, whose checksum is then right."""
    if data[:2] == b"PK" and rng.random() < 0.7:
        with suppress(Exception):  # it is damaged already
            return _damaged_member(data, rng)
    changed = _changed(data, rng)
    if rng.random() < 0.7:
        if data.startswith(PNG):
            return with_png_checksums(changed)
        if data[257:262] == b"ustar":
            return with_tar_checksums(changed)
        if data.startswith(FAISS):
            return with_index_checksum(changed)
    return changed


def damaged_value(value: Any, rng: random.Random, others: Sequence[Any] = ()) -> Any:
    """A copy of nested dicts and lists in which one value is another, gone, there twice, or has another key."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice((*VALUES, *others))
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    place, change = rng.randrange(len(items)), rng.choice(("inside",) * 7 + ("drop", "repeat", "rename"))
    key, child = items[place]
    if change == "inside":
        items[place] = key, damaged_value(child, rng, others)
    elif change == "drop":
        del items[place]
    else:
        new_key = rng.choice(("", "x", *(key for key, _ in items))) if isinstance(value, dict) else key
        items[place : place + (change == "rename")] = [(new_key, child)]
    return dict(items) if isinstance(value, dict) else [child for _, child in items]


def _changed(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return rng.randbytes(rng.randrange(20))
    near = min(len(data), rng.choice((64, 512, len(data))))  # headers are where they matter
    start = rng.randrange(near) if rng.random() < 0.8 else len(data) - 1 - rng.randrange(near)
    stop = min(len(data), start + rng.choice((1, 2, 4, 8, 40, 1000)))
    kind = rng.choice(
        ("bits", "bits", "number", "number", "word", "word", "word", "cut", "drop", "repeat", "insert", "move")
    )
    if kind == "bits":
        return data[:start] + bytes([data[start] ^ (1 << rng.randrange(8))]) + data[start + 1 :]
    if kind == "number":
        size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
        number = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
        return data[:start] + number + data[start + size :]
    if kind == "word":
        words = list(_WORD.finditer(data, max(0, start - 200), start + 200))
        at = rng.choice(words).span() if words else (start, stop)
        return data[: at[0]] + rng.choice(WORDS) + data[at[1] :]
    if kind == "cut":
        return data[:start]
    if kind == "drop":
        return data[:start] + data[stop:]
    if kind == "repeat":
        return data[:stop] + data[start:stop] * rng.choice((1, 2, 50)) + data[stop:]
    if kind == "insert":
        return data[:start] + rng.randbytes(rng.randrange(1, 9)) + data[start:]
    place = rng.randrange(len(data))
    rest = data[:start] + data[stop:]
    return rest[:place] + data[start:stop] + rest[place:]


def _damaged_member(data: bytes, rng: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(file, "w") as copy:
        members = archive.infolist()
        chosen = rng.choice(members)
        for member in members:
            content = archive.read(member)
            if member is not chosen:
                copy.writestr(member.filename, content)
            elif (chance := rng.random()) < 0.85:
                copy.writestr(member.filename, _changed(content, rng), zipfile.ZIP_DEFLATED if chance < 0.05 else None)
            elif chance < 0.95:
                copy.writestr(f"{member.filename}x", content)
    return file.getvalue()


def with_png_checksums(data: bytes) -> bytes:
    parts, position = [data[: len(PNG)]], len(PNG)
    while position + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        if position + 12 + size > len(data):
            break
        content = data[position + 4 : position + 8 + size]
        parts += [data[position : position + 4], content, struct.pack(">I", zlib.crc32(content))]
        position += 12 + size
    return b"".join([*parts, data[position:]])


def with_tar_checksums(data: bytes) -> bytes:
    blocks = [data[start : start + TAR_BLOCK] for start in range(0, len(data), TAR_BLOCK)]
    for number, block in enumerate(blocks):
        if block[257:262] == b"ustar" and len(block) == TAR_BLOCK:
            total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
            blocks[number] = block[:148] + b"%06o\0 " % total + block[156:]
    return b"".join(blocks)


def with_index_checksum(data: bytes) -> bytes:
    """Of a gallery, whose last 32 bytes are a SHA-256 of the others."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()
