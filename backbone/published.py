"""Published MobileNet weights: files, accuracies, and verified downloads.

Files are verified by SHA-256: against the digest listed here or, if none is published, that of the first download.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import sys
import tarfile
import urllib.request
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from backbone.names import BackboneName, ConventionsName, parse_name

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"
_TIMM_TAG = "ra4_e3600_r224_in1k"
_TIMM_FILE = "model.safetensors"

# torchvision's file names contain the first eight digits. The full digests, and timm's, are from third parties who
# list them; none was found for Keras's files and mobilenetv1_100h.
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
        name: for `--pretrained`.
        publisher: also the conventions that the weights need.
        backbone: the backbone's name, with the input size of its training.
        top1: published ImageNet validation top-1 accuracy at that size, a fraction, single crop.
        top5: the same for top-5.
        licence: as published.
        url: of the file, or of its repository.
        sha256: of the file; None if none is published, then the first download is the reference.
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
    """Accuracies as published for the original TensorFlow checkpoints: tensorflow/models, mobilenet_v1.md."""
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
    """Accuracies from the model cards of the Hugging Face repositories."""
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
    """Accuracies as stated in torchvision's own records of its best weights."""
    models = (
        ("mobilenet_v2-7ebf99e0.pth", "mobilenet_v2_1.0_224", 72.154, 90.822),
        ("mobilenet_v3_large-5c1a4163.pth", "mobilenet_v3_large_1.0_224", 75.274, 92.566),
        ("mobilenet_v3_small-047dcff4.pth", "mobilenet_v3_small_1.0_224", 67.668, 87.402),
    )
    url = "https://download.pytorch.org/models/"
    return [
        PublishedWeights(
            file, "torchvision", backbone, top1 / 100, top5 / 100, "BSD-3-Clause", url + file, _SHA256[file]
        )
        for file, backbone, top1, top5 in models
    ]


PUBLISHED = (*_keras(), *_timm(), *_torchvision())


def find_published(name: str, backbone_name: str, input_size: int) -> PublishedWeights | None:
    """Find published weights by name, or by publisher: its weights for that backbone with the nearest input size.

    Returns:
        None if `name` is neither the name of published weights nor a publisher.

    Raises:
        ValueError: if the publisher has no weights for that backbone.
    """
    for row in PUBLISHED:
        if row.name == name:
            return row
    candidates = [row for row in PUBLISHED if row.publisher == name]
    if not candidates:
        return None

    def any_size(name: str) -> BackboneName:
        return replace(parse_name(name), input_size=None)

    matching = [row for row in candidates if any_size(row.backbone) == any_size(backbone_name)]
    if not matching:
        names = dict.fromkeys(row.backbone.rsplit("_", 1)[0] for row in candidates)
        raise ValueError(f"{name} published no weights for {backbone_name}; it has {', '.join(names)}")

    def distance(row: PublishedWeights) -> tuple[int, int]:
        size = parse_name(row.backbone).input_size or 0
        return abs(size - input_size), -size

    return min(matching, key=distance)


def fetch(row: PublishedWeights) -> Path:
    """The verified file in its publisher's cache, downloaded if needed.

    Raises:
        ValueError: if the download fails or the file has another digest; the message tells how to get it manually.
    """
    advice = "download it by hand and pass its path as --pretrained"
    if row.publisher == "timm":
        from huggingface_hub import hf_hub_download  # slow to import
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(row.url.removeprefix("https://huggingface.co/"), _TIMM_FILE))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ValueError(
                f"{row.url}: download of {_TIMM_FILE} failed ({type(error).__name__}); {advice}"
            ) from error
        _verify(path, row.name, row.sha256)
        return path
    return download_once(row.url, row.name, row.sha256, advice=advice)


def download_once(url: str, name: str, sha256: str | None, *, advice: str, member: str | None = None) -> Path:
    """A file in torch's download folder, downloaded once and verified at each use.

    Args:
        url: of the file, or of an archive that has it, which is not kept.
        name: of the local file.
        sha256: expected digest of the download; None if none is published and the server sends an MD5.
        advice: the manual alternative, for the error message.
        member: path of the file in the archive; None if the URL is that of the file.

    Raises:
        ValueError: if the download fails, or the file has another digest.
    """
    import torch  # slow to import, and not needed for the list

    path = _torch_folder() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        download = path if member is None else path.with_name(f".{name}.{os.getpid()}.archive")
        try:
            if sha256 is None:
                _download_with_md5(url, download)
            else:
                torch.hub.download_url_to_file(url, str(download), hash_prefix=sha256, progress=False)
        except (OSError, http.client.HTTPException, RuntimeError) as error:  # HTTPException: incomplete download
            file = "the file" if member is None else f"its {member}"
            raise ValueError(f"{url}: download failed ({error}); put {file} at {path}, or {advice}") from error
        if member is not None:
            _extract(url, download, member, path)
    _verify(path, name, sha256 if member is None else None)
    return path


def _extract(url: str, archive: Path, member: str, path: Path) -> None:
    """Take a file from an archive, and remove the archive.

    Raises:
        ValueError: if it is no archive, or has no such file.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            file = tar.extractfile(member)
            if file is None:
                raise KeyError(f"{member} is not a file")
            _write_atomically(path, file.read())
    except (tarfile.TarError, OSError, EOFError, zlib.error, KeyError) as error:
        raise ValueError(f"{url}: {member} cannot be extracted from it ({error})") from error
    finally:
        archive.unlink()


def _torch_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _verify(path: Path, name: str, sha256: str | None) -> None:
    """Verify a file's SHA-256; without a published one, against the stored digest of its first download.

    Raises:
        ValueError: if the digest differs.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    digest_file = _torch_folder() / f"{name}.sha256"  # in the format of `sha256sum`
    if sha256 is None and not digest_file.exists():
        _write_atomically(digest_file, f"{digest}  {path.name}\n".encode())
        print(
            f"{name}: no SHA-256 is published, so this file cannot be verified; its digest {digest} is stored in "
            f"{digest_file}, and later files must match it",
            file=sys.stderr,
        )
    expected = sha256 or digest_file.read_text(encoding="utf-8").partition(" ")[0]
    if digest != expected:
        origin = "pinned here" if sha256 else f"stored in {digest_file}"
        raise ValueError(
            f"{path}: its SHA-256 is {digest}, but the one {origin} is {expected}: remove the file to download it "
            "again, or pass its path if it is your own"
        )


def _download_with_md5(url: str, path: Path) -> None:
    """Download a file whose server sends its MD5 (Google's storage does)."""
    with urllib.request.urlopen(url, timeout=30) as response:
        data, hashes = response.read(), response.headers.get_all("x-goog-hash", [])
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    if f"md5={md5}" not in [part.strip() for line in hashes for part in line.split(",")]:
        raise RuntimeError(f"the content does not have the hash sent by the server, {hashes}")
    _write_atomically(path, data)


def _write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)
