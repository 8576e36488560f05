"""The published MobileNet weights: what exists, what it scores, and how to get it.

A file counts only with its SHA-256: the one that is written down here or, where nobody states one, that of the file as
it was first seen.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.models import MobileNet_V2_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights

from backbone.names import ConventionsName, parse_name

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
_TIMM_TAG = "ra4_e3600_r224_in1k"
_TIMM_FILE = "model.safetensors"

# torchvision states the first eight digits of its files in their names. The rest, and timm's, are those that users of
# the files have written down; of Keras's files and mobilenetv1_100h nobody has, as far as could be found.
_SHA256 = {
    "mobilenet_v2-7ebf99e0.pth": "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f",
    "mobilenet_v3_large-5c1a4163.pth": "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997",
    "mobilenet_v3_small-047dcff4.pth": "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
    "mobilenetv1_100": "15c2f1411deb8e0533acbb41fe9523062f80d444d0393e7ad2b429f41378efc3",
    "mobilenetv1_125": "5616b1d4d774ac5bdf3fb254a72da78a5f27b19aa13bcceac03a743077c6acd8",
}


@dataclass(frozen=True)
class PublishedWeights:
    """One file of ImageNet weights.

    Attributes:
        name: what `--backbone.pretrained` calls it.
        publisher: whose conventions it needs.
        backbone: the backbone's name, with the input size that it was trained at.
        top1: published ImageNet validation accuracy at that size, a fraction, single crop.
        top5: the same for five guesses.
        licence: as the publisher states it.
        url: of the file, or of its repository.
        sha256: of the file; None where nobody states it, and the file as it was first seen counts.
    """

    name: str
    publisher: ConventionsName
    backbone: str
    top1: float
    top5: float
    licence: str
    url: str
    sha256: str | None


def _keras() -> list[PublishedWeights]:
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
            rows.append(PublishedWeights(file, "keras", backbone, *fractions, "Apache-2.0", KERAS_URL + file, None))
    return rows


def _timm() -> list[PublishedWeights]:
    """Accuracies as stated in the model cards of the Hugging Face repositories."""
    models = (
        ("mobilenetv1_100", "mobilenet_1.0_224", 0.75382, 0.92312),
        ("mobilenetv1_100h", "mobilenet_1.0_head_224", 0.75662, 0.92504),
        ("mobilenetv1_125", "mobilenet_1.25_224", 0.76924, 0.93234),
    )
    url = "https://huggingface.co/timm/{}." + _TIMM_TAG
    return [
        PublishedWeights(name, "timm", backbone, top1, top5, "Apache-2.0", url.format(name), _SHA256.get(name))
        for name, backbone, top1, top5 in models
    ]


def _torchvision() -> list[PublishedWeights]:
    """The best weights of each network, with what torchvision's own records say of them."""
    rows = []
    for backbone, weights in (
        ("mobilenet_v2_1.0_224", MobileNet_V2_Weights.IMAGENET1K_V2),
        ("mobilenet_v3_large_1.0_224", MobileNet_V3_Large_Weights.IMAGENET1K_V2),
        ("mobilenet_v3_small_1.0_224", MobileNet_V3_Small_Weights.IMAGENET1K_V1),
    ):
        scores = weights.meta["_metrics"]["ImageNet-1K"]
        file = weights.url.rsplit("/", 1)[1]
        fractions = (scores["acc@1"] / 100, scores["acc@5"] / 100)
        rows.append(
            PublishedWeights(file, "torchvision", backbone, *fractions, "BSD-3-Clause", weights.url, _SHA256[file])
        )
    return rows


IMAGENET_CLASS_NAMES: tuple[str, ...] = tuple(MobileNet_V2_Weights.DEFAULT.meta["categories"])  # by class id
PUBLISHED = (*_keras(), *_timm(), *_torchvision())


def find_published(asked: str, backbone_name: str, input_size: int) -> PublishedWeights | None:
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

    def distance(row: PublishedWeights) -> tuple[int, int]:
        size = parse_name(row.backbone).input_size or 0
        return abs(size - input_size), -size

    return min(fitting, key=distance)


def fetch(row: PublishedWeights) -> Path:
    """The file in its publisher's cache, downloaded and checked if need be.

    Raises:
        ValueError: if it is neither in the cache nor can be downloaded whole, or is another file than it was; says
            what to do by hand.
    """
    by_hand = "; download it by hand and pass its path as --backbone.pretrained"
    if row.publisher == "timm":
        from huggingface_hub import hf_hub_download  # slow to import, and needed for these alone
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(row.url.removeprefix("https://huggingface.co/"), _TIMM_FILE))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ValueError(f"{row.url}: download of {_TIMM_FILE} failed ({type(error).__name__}){by_hand}") from error
        _verify(path, row.name, row.sha256)
        return path
    return download_once(row.url, row.name, row.sha256, advice=by_hand[2:])


def download_once(url: str, name: str, sha256: str | None, *, advice: str) -> Path:
    """The file of a URL in the folder where torch keeps what it downloads, downloaded once and checked at each use.

    Args:
        url: of the file.
        name: of the file here.
        sha256: that it must have; None where nobody states it, but its server states an MD5.
        advice: what to do by hand.

    Raises:
        ValueError: if the download fails, or the file is another one.
    """
    path = _torch_folder() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if sha256 is None:
                _download_stated(url, path)
            else:
                torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
        except (OSError, http.client.HTTPException, RuntimeError) as error:  # the second when a part of it arrived
            raise ValueError(f"{url}: download failed ({error}); put the file at {path}, or {advice}") from error
    _verify(path, name, sha256)
    return path


def _torch_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _verify(path: Path, name: str, sha256: str | None) -> None:
    """Compare a file with its SHA-256; without one, with that of the file as it was first seen, which is written down.

    Raises:
        ValueError: if it is another one.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = _torch_folder() / f"{name}.sha256"  # as `sha256sum` writes it
    if sha256 is None and not note.exists():
        _write_whole(note, f"{digest}  {path.name}\n".encode())
        print(
            f"{name}: nobody states its SHA-256, so it is not known to be what was published; from now on it must be "
            f"what it is now, {digest}, which is written down in {note}",
            file=sys.stderr,
        )
    expected = sha256 or note.read_text(encoding="utf-8").partition(" ")[0]
    if digest != expected:
        known = "known here" if sha256 else f"written down in {note}"
        raise ValueError(
            f"{path}: its SHA-256 is {digest}, but the one {known} is {expected}: remove the file, so that it is "
            "downloaded again, or pass its path if it is one of your own"
        )


def _download_stated(url: str, path: Path) -> None:
    """Download a file whose server states its MD5 (Google's storage does)."""
    with urllib.request.urlopen(url, timeout=30) as response:
        data, hashes = response.read(), response.headers.get_all("x-goog-hash", [])
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    if f"md5={md5}" not in [part.strip() for line in hashes for part in line.split(",")]:
        raise RuntimeError(f"what arrived does not have the hash that the server states, {hashes}")
    _write_whole(path, data)


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
