"""What kind of data tar files have: as the card beside them says, or by their first record."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from datasets.shards.attributes import VALUES
from datasets.shards.find import CARD, Shards
from datasets.shards.records import first_index


def find_kind(shards: Shards, kinds: Collection[str]) -> str:
    """The kind of data, one of `kinds`.

    Raises:
        ValueError: if the card names another one, or neither it nor the first record tells.
    """
    if (kind := shards.card.get("kind")) is not None:
        if kind not in kinds:
            raise ValueError(f"{shards.root}: {CARD}: kind {str(kind)[:100]!r}; expected one of {', '.join(kinds)}")
        return str(kind)
    index = first_index(shards)
    if not len(index):
        raise ValueError(f"{shards.root}: no images in its tar files; expected records such as key.jpg and key.cls")
    if index.mask_spans[0, 1]:
        return "segmentation"
    record = _record(index.texts["json"][0])
    keys = {str(key).lower() for key in record}
    if "annotations" in keys:
        return "detection"
    if keys & {"lat", "latitude"}:
        return "geolocation"
    if "person" in keys:
        return "embedding"
    if index.texts["cls"].sizes[0]:
        return "classification"
    if record and all(isinstance(value, int | float) and value in VALUES for value in record.values()):
        return "attributes"
    raise ValueError(
        f"{shards.root}: the first record, {bytes(index.names[0]).decode(errors='replace')}, does not tell what the "
        f"data are; --task says it, or {CARD} beside the tar files"
    )


def _record(text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):  # the reader of the kind says so
        return {}
    return record if isinstance(record, dict) else {}
