"""Read YAML files as plain values, whatever is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_VALUES = 1_000_000  # after aliases are followed


def read_yaml(path: Path, loader: type[yaml.BaseLoader | yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The content of a YAML file: mappings, lists, texts and numbers, never other objects.

    Args:
        path: the file.
        loader: `yaml.BaseLoader` for texts alone, in which `no` and `1e3` stay as they are written.

    Raises:
        ValueError: naming the file, if it cannot be read, is not YAML, has tags of objects, or aliases within aliases
            that stand for more than a million values.
    """
    try:
        reader = loader(path.read_text(encoding="utf-8-sig"))
        try:
            node = reader.get_single_node()
            if node is None:
                return None
            if _num_values(node, {}) > MAX_VALUES:
                raise ValueError(f"its aliases stand for more than {MAX_VALUES:,} values")
            return reader.construct_document(node)
        finally:
            reader.dispose()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a YAML file") from error
    except Exception as error:  # of many types: PyYAML does not check dates and numbers
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{path}: not valid YAML: {reason}") from error


def _num_values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """How many values a node stands for; each node is visited once.

    Raises:
        ValueError: if a node is in itself.
    """
    key = id(node)
    if key not in known:
        known[key] = None  # until it is counted
        pairs = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = [child for pair in pairs for child in (pair if isinstance(pair, tuple) else (pair,))]
        known[key] = 1 + sum(_num_values(child, known) for child in inner)
    count = known[key]
    if count is None:
        raise ValueError("an alias that stands for what it is in")
    return count
