"""What identifies a network: the key of what is computed with it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import nn

from tasks.common.settings import flatten


def hash_network(network: nn.Module, settings: Any) -> hashlib._Hash:
    """The SHA-256 of a network's weights and of JSON-serialisable settings; callers may update it further."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, value in flatten(network.state_dict()).items():  # an extra state is a dict of tensors
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest
