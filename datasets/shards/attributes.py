"""Attributes in tar files: `key.jpg` beside `key.json`, such as {"Smiling": 1, "Eyeglasses": 0}."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from datasets.shards.find import Shards, names_in_card
from datasets.shards.records import Records, TarTexts, first_index, read_records

EXPECTED = "a JSON record with 0 or 1 for each attribute"
VALUES = {0: False, -1: False, 1: True}  # True == 1, False == 0


def attribute_names(shards: Shards) -> list[str]:
    """The names in the card beside the tar files; without it those of the first record.

    Raises:
        ValueError: naming the tar files, if there are none.
    """
    names = names_in_card(shards, "attribute_names")
    if names is None:
        index = first_index(shards)
        texts = [text for row in range(min(1, len(index))) if (text := index.texts["json"][row])]
        first = TarTexts([shards.tars[0].name] * len(texts), texts).json_objects(EXPECTED)
        names = [str(name) for record in first for name in record]
    if not names:
        raise ValueError(f"{shards.root}: no attributes; expected {EXPECTED} beside each image, in key.json")
    return names


def read_attribute_records(names: list[str], shards: Shards) -> Records[NDArray[np.bool_]]:
    """The records, with values (n, K) for each tar file.

    Raises:
        ValueError: naming the record that lacks an attribute, or has another value.
    """
    return read_records(shards, "json", partial(_values, names))


def _values(names: list[str], texts: TarTexts) -> NDArray[np.bool_]:
    values = np.zeros((len(texts.texts), len(names)), np.bool_)
    for row, record in enumerate(texts.json_objects(EXPECTED)):
        for column, name in enumerate(names):
            value = record.get(name)
            if not isinstance(value, int | float) or value not in VALUES:
                raise ValueError(f"{texts.names[row]}: expected {EXPECTED}; {name} is {str(value)[:100]}")
            values[row, column] = VALUES[int(value)]
    return values
