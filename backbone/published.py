"""The published MobileNet weights: what exists, what it scores, and how to get it.

Each publisher's own client downloads and keeps its files; the Keras files have none outside Keras, so they are fetched
here.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torchvision.models import MobileNet_V2_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights

from backbone.names import ConventionsName, parse_name

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
_TIMM_TAG = "ra4_e3600_r224_in1k"
_TIMM_FILE = "model.safetensors"


@dataclass(frozen=True)
class Published:
    """One file of ImageNet weights.

    Attributes:
        name: what `--backbone.pretrained` calls it.
        publisher: whose conventions it needs.
        backbone: the backbone's name, with the input size that it was trained at.
        top1: published ImageNet validation accuracy at that size, a fraction, single crop.
        top5: the same for five guesses.
        licence: as the publisher states it.
        url: of the file, or of its repository.
        hash: what a download is checked against.
    """

    name: str
    publisher: ConventionsName
    backbone: str
    top1: float
    top5: float
    licence: str
    url: str
    hash: str


def _keras() -> list[Published]:
    """Accuracies as stated for the TensorFlow checkpoints that these are: tensorflow/models, mobilenet_v1.md."""
    files = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}
    accuracies = {
        1.0: ((224, 70.9, 89.9), (192, 70.0, 89.2), (160, 68.0, 87.7), (128, 65.2, 85.8)),
        0.75: ((224, 68.4, 88.2), (192, 67.2, 87.3), (160, 65.3, 86.0), (128, 62.1, 83.9)),
        0.5: ((224, 63.3, 84.9), (192, 61.7, 83.6), (160, 59.1, 81.9), (128, 56.3, 79.4)),
        0.25: ((224, 49.8, 74.2), (192, 47.7, 72.3), (160, 45.5, 70.3), (128, 41.5, 66.3)),
    }
    rows = []
    for width, by_size in accuracies.items():
        for size, top1, top5 in by_size:
            file, backbone = f"mobilenet_{files[width]}_{size}_tf.h5", f"mobilenet_{width}_{size}"
            fractions = (top1 / 100, top5 / 100)
            rows.append(
                Published(file, "keras", backbone, *fractions, "Apache-2.0", KERAS_URL + file, "MD5 from the server")
            )
    return rows


def _timm() -> list[Published]:
    """Accuracies as stated in the model cards of the Hugging Face repositories."""
    models = (
        ("mobilenetv1_100", "mobilenet_1.0_224", 0.75382, 0.92312),
        ("mobilenetv1_100h", "mobilenet_1.0_head_224", 0.75662, 0.92504),
        ("mobilenetv1_125", "mobilenet_1.25_224", 0.76924, 0.93234),
    )
    url = "https://huggingface.co/timm/{}." + _TIMM_TAG
    return [
        Published(name, "timm", backbone, top1, top5, "Apache-2.0", url.format(name), "huggingface_hub")
        for name, backbone, top1, top5 in models
    ]


def _torchvision() -> list[Published]:
    """The newest weights of each network, with what torchvision's own records say of them."""
    rows = []
    for backbone, weights in (
        ("mobilenet_v2_1.0_224", MobileNet_V2_Weights.DEFAULT),
        ("mobilenet_v3_large_1.0_224", MobileNet_V3_Large_Weights.DEFAULT),
        ("mobilenet_v3_small_1.0_224", MobileNet_V3_Small_Weights.DEFAULT),
    ):
        scores = weights.meta["_metrics"]["ImageNet-1K"]
        file = weights.url.rsplit("/", 1)[1]
        prefix = Path(file).stem.rsplit("-", 1)[1]
        fractions = (scores["acc@1"] / 100, scores["acc@5"] / 100)
        rows.append(
            Published(file, "torchvision", backbone, *fractions, "BSD-3-Clause", weights.url, f"SHA-256 {prefix}...")
        )
    return rows


IMAGENET_CLASS_NAMES: tuple[str, ...] = tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"])  # by class id
PUBLISHED = (*_keras(), *_timm(), *_torchvision())


def find_published(asked: str, backbone_name: str, input_size: int) -> Published | None:
    """The published weights of that name; for a publisher, its file for a backbone that is nearest in input size.

    Returns:
        None if `asked` is neither a publisher nor a published name.

    Raises:
        ValueError: if the publisher has nothing for that backbone.
    """
    for row in PUBLISHED:
        if row.name == asked:
            return row
    theirs = [row for row in PUBLISHED if row.publisher == asked]
    if not theirs:
        return None

    def kind(name: str) -> tuple[object, ...]:
        parsed = parse_name(name)
        return parsed.family, parsed.variant, parsed.width_mult

    fitting = [row for row in theirs if kind(row.backbone) == kind(backbone_name)]
    if not fitting:
        names = dict.fromkeys(row.backbone.rsplit("_", 1)[0] for row in theirs)
        raise ValueError(f"{asked} published no weights for {backbone_name}; it has {', '.join(names)}")

    def distance(row: Published) -> tuple[int, int]:
        size = parse_name(row.backbone).input_size or 0
        return abs(size - input_size), -size

    return min(fitting, key=distance)


def fetch(row: Published) -> Path:
    """The file in its publisher's cache, downloaded and checked if need be.

    Raises:
        ValueError: if it is neither in the cache nor can be downloaded whole; says what to do by hand.
    """
    by_hand = "; download it by hand and pass its path as --backbone.pretrained"
    if row.publisher == "timm":
        from huggingface_hub import hf_hub_download  # slow to import, and needed for these alone
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(row.url.removeprefix("https://huggingface.co/"), _TIMM_FILE))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ValueError(f"{row.url}: download of {_TIMM_FILE} failed ({type(error).__name__}){by_hand}") from error

    if row.publisher == "torchvision":
        prefix = Path(row.name).stem.rsplit("-", 1)[1]
        get = torch.hub.download_url_to_file
        download: Callable[[str, str], None] = partial(get, hash_prefix=prefix, progress=False)
    else:
        download = _download_checked
    return keep_download(row.url, row.name, download, or_else=by_hand[2:])


def keep_download(url: str, name: str, download: Callable[[str, str], None], *, or_else: str) -> Path:
    """The file of a URL in the folder where torch keeps what it downloads, downloaded once.

    Args:
        url: of the file.
        name: of the file here.
        download: (url, path) writes the file.
        or_else: what to do by hand.

    Raises:
        ValueError: if the download fails.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download(url, str(path))
        except (OSError, http.client.HTTPException, RuntimeError) as error:  # the second when a part of it arrived
            raise ValueError(f"{url}: download failed ({error}); put the file at {path}, or {or_else}") from error
    return path


def _download_checked(url: str, path: str) -> None:
    """Download a file whose server states its MD5 (Google's storage does)."""
    with urllib.request.urlopen(url, timeout=30) as response:
        data, hashes = response.read(), response.headers.get_all("x-goog-hash", [])
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    if f"md5={md5}" not in [part.strip() for line in hashes for part in line.split(",")]:
        raise RuntimeError(f"what arrived does not have the hash that the server states, {hashes}")
    temporary = Path(path).with_suffix(f".{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
