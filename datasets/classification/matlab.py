"""Read a MATLAB file (level 5) of numbers and texts.

Not by `scipy.io.loadmat`, which on about one damaged file in a hundred ends the process with a segmentation fault
(SciPy 1.17; found by generated files).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 128
MAX_BYTES = 2**26  # of all arrays that are compressed in the file
MAX_DIMENSIONS = 32
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-{}", 16: "utf-8", 17: "utf-16-{}", 18: "utf-32-{}"}
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)  # classes of arrays
MatlabArray = NDArray[np.generic] | list[str]


def read_matlab(path: Path) -> dict[str, MatlabArray]:
    """The arrays of numbers, flat, and the cell arrays of texts in a file, by name; others are passed over.

    Raises:
        ValueError: if it is not such a file, or a damaged one.
    """
    data = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER_BYTES])
    if order is None:
        raise ValueError("not a MATLAB file of level 5")
    found, num_bytes = {}, 0
    for kind, content in _elements(data[HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            try:
                stream = zlib.decompressobj()
                content = stream.decompress(content, MAX_BYTES)
                num_bytes += len(content)
                if num_bytes >= MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES:,} bytes of arrays")
                if not stream.eof:
                    raise ValueError("damaged compressed data: it ends too early")
                kind, content = next(_elements(content, order))
            except (zlib.error, StopIteration) as error:
                raise ValueError("damaged compressed data") from error
        if kind == _MATRIX:
            name, value = _array(content, order)
            if value is not None:
                found[name] = value
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element."""
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise ValueError("damaged: it ends within an element")
        kind, size = (int(word) for word in np.frombuffer(data, f"{order}u4", 2, position))
        start, stop = position + 8, position + 8 + size
        if kind >> 16:  # up to four bytes within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            start, stop = position + 4, position + 4 + size
        if stop > len(data) or (start == position + 4 and size > 4):
            raise ValueError("damaged: an element is longer than its file")
        yield kind, data[start:stop]
        end = max(stop, position + 8)
        position = end if kind == _COMPRESSED else position + -(-(end - position) // 8) * 8


def _array(content: bytes, order: str, *, is_cell: bool = False) -> tuple[str, MatlabArray | None]:
    """Name and value of an array; None for kinds that are not read, such as cells of cells."""
    parts = list(_elements(content, order))
    if len(parts) < 3 or len(parts[0][1]) != 8:
        raise ValueError("damaged: an array without flags, dimensions and name")
    array_class = int(np.frombuffer(parts[0][1], f"{order}u4", 1)[0]) & 0xFF
    sides = np.frombuffer(parts[1][1][: len(parts[1][1]) // 4 * 4], f"{order}i4").tolist()
    if len(sides) > MAX_DIMENSIONS:  # their product may take hours
        raise ValueError(f"damaged: an array of {len(sides):,} dimensions")
    count = math.prod(sides)
    name = parts[2][1].decode("latin-1")
    if array_class == _CELL:
        if is_cell:  # each would copy what is within it, as deep as a file likes
            return name, None
        values = [_array(part, order, is_cell=True)[1] for kind, part in parts[3:] if kind == _MATRIX]
        texts = [value[0] for value in values if isinstance(value, list) and len(value) == 1]
        if len(values) != count:
            raise ValueError(f"damaged: {name!r} has {len(values)} cells, and dimensions for {count}")
        return name, texts if len(texts) == len(values) else None
    if array_class not in (_CHAR, *_NUMERIC) or len(parts) < 4:
        return name, None
    kind, raw = parts[3]
    if array_class == _CHAR:
        if kind not in _TEXTS:
            raise ValueError(f"damaged: a text of type {kind}")
        return name, [raw.decode(_TEXTS[kind].format("le" if order == "<" else "be"))]
    if kind not in _NUMBERS or len(raw) % int(_NUMBERS[kind][1]):
        raise ValueError(f"damaged: numbers of type {kind}")
    numbers = np.frombuffer(raw, f"{order}{_NUMBERS[kind]}")
    if len(numbers) != count:
        raise ValueError(f"damaged: {name!r} has {len(numbers)} numbers, and dimensions for {count}")
    return name, numbers
