"""Faces in tar files: `key.jpg` beside `key.json` with the person, or beside the name in `key.cls` or `key.txt`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.shards.find import Shards
from datasets.shards.records import Part, TarTexts, first_index, read_records
from datasets.shards.store import ShardedImages

EXPECTED = 'a JSON record with the name of a person, such as {"person": "Ann"}'
MAX_NUMBER = 10**9


class FaceRecords(NamedTuple):
    """The N photos of tar files.

    Attributes:
        images: N.
        persons: (N,), the name on each.
        numbers: int64 (N,), of each photo among the person's: as written beside it, else counted from 1.
        warnings: a line for each kind of record that is left out.
    """

    images: ShardedImages
    persons: NDArray[np.str_]
    numbers: NDArray[np.int64]
    warnings: list[str]


def read_face_records(shards: Shards) -> FaceRecords:
    """The photos and their persons.

    Raises:
        ValueError: naming the record without a person.
    """
    part: Part = "json" if first_index(shards).texts["json"].sizes[:1].any() else "cls"
    records = read_records(shards, part, _of_json if part == "json" else _of_names)
    persons = np.concatenate([names for names, _ in records.values])
    numbers = np.concatenate([numbers for _, numbers in records.values])
    if not numbers.all():
        numbers = _counted(persons)
    return FaceRecords(records.images, persons, numbers, records.warnings)


def _of_json(texts: TarTexts) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    persons, numbers = [], np.zeros(len(texts.texts), np.int64)
    for row, record in enumerate(texts.json_objects(EXPECTED)):
        person, number = record.get("person"), record.get("number", 0)
        if not isinstance(person, str | int) or not str(person).strip():
            raise ValueError(f"{texts.names[row]}: expected {EXPECTED}, got the keys {', '.join(record)[:200]!r}")
        if not isinstance(number, int) or not 0 <= number < MAX_NUMBER:
            raise ValueError(f"{texts.names[row]}: expected a number of the photo from 1, got {str(number)[:100]}")
        persons.append(str(person))
        numbers[row] = number
    return np.array(persons, np.str_), numbers


def _of_names(texts: TarTexts) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    names = [text.decode("utf-8", "replace").strip() for text in texts.texts]
    return np.array(names, np.str_), np.zeros(len(names), np.int64)


def _counted(persons: NDArray[np.str_]) -> NDArray[np.int64]:
    """The number of each photo among those of its person, from 1."""
    order = np.argsort(persons, kind="stable")
    is_first = np.ones(len(persons), np.bool_)
    is_first[1:] = persons[order][1:] != persons[order][:-1]
    starts = np.flatnonzero(is_first)
    numbers = np.zeros(len(persons), np.int64)
    numbers[order] = np.arange(len(persons)) - np.repeat(starts, np.diff(starts, append=len(persons))) + 1
    return numbers
