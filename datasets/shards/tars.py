"""Tar files here, on a server or in a bucket; what is elsewhere is copied to the cache folder when it is first used."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import filelock

from datasets.files import CACHE_VARIABLE, atomic_write, cache_dir
from datasets.urls import (
    BUCKETS,
    MissingUrlError,
    UrlError,
    beside,
    is_bucket,
    is_http,
    open_bucket,
    url_faults,
)
from datasets.web import WebError, open_http

INDEX_SUFFIX = ".index.safetensors"  # in place of .tar
TIMEOUT_S, NUM_TRIES, PAUSE_S = 30.0, 3, 1.0
MAX_TAR_BYTES, MAX_INDEX_BYTES = 64 << 30, 1 << 30
_CHUNK_BYTES = 1 << 20
# What fsspec's packages call the version of a file, in lower case without "_"; of all its properties at once, `ukey` is
# a hash, which for S3 depends on how they were asked for.
_VERSION_KEYS: tuple[str, ...] = ("etag", "md5hash", "blobid", "generation", "lastmodified", "mtime", "created")
_NUM_THREADS = 16
_WITHOUT_HEAD = (403, 405, 501)  # answers of servers that do not tell about a file what they would send


@dataclass(frozen=True)
class Tar:
    """A tar file on this machine.

    Attributes:
        path: the file.
    """

    path: Path

    @property
    def name(self) -> str:
        """For messages and ids."""
        return str(self.path)

    def file(self) -> Path:
        """The file."""
        return self.path

    def index_file(self) -> Path | None:
        """The index beside it; None if there is none."""
        path = self.path.with_suffix(INDEX_SUFFIX)
        return path if path.is_file() else None


@dataclass(frozen=True)
class RemoteTar:
    """A tar file on a server or in a bucket.

    Attributes:
        url: without a password.
        num_bytes: its size.
        version: what its server or bucket calls this content, such as an ETag; empty where it says nothing.
    """

    url: str
    num_bytes: int
    version: str = ""

    @property
    def name(self) -> str:
        """For messages and ids."""
        return self.url

    def file(self) -> Path:
        """The copy of the file in the cache folder, which is made if it is not there.

        Raises:
            UrlError: if it cannot be read.
        """
        return self._copy(self.url, ".tar", self.num_bytes, self.version)

    def index_file(self) -> Path | None:
        """A copy of the index beside it; None if there is none."""
        url = beside(self.url, urlsplit(self.url).path.rpartition("/")[2].removesuffix(".tar") + INDEX_SUFFIX)
        try:
            num_bytes, version = remote_state(url)
        except MissingUrlError:
            return None
        if num_bytes > MAX_INDEX_BYTES:
            raise ValueError(f"{url}: {num_bytes:,} bytes; expected at most {MAX_INDEX_BYTES:,}")
        return self._copy(url, INDEX_SUFFIX, num_bytes, version)

    def _copy(self, url: str, suffix: str, num_bytes: int, version: str) -> Path:
        about = f"{url} {num_bytes} {version} {self.num_bytes} {self.version}"
        digest = hashlib.blake2b(about.encode(), digest_size=16).hexdigest()
        path = cache_dir() / "shards" / f"{digest}{suffix}"
        if path.is_file():
            return path
        with _faults(url):
            path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{path}.lock"):  # other processes need it at the same time
                if not path.is_file():
                    _download(url, path, num_bytes)
        return path


def remote_tars(urls: Sequence[str]) -> tuple[RemoteTar, ...]:
    """The tar files at URLs, all of which must be there.

    Raises:
        ValueError: naming the first one that cannot be read.
    """
    with ThreadPoolExecutor(_NUM_THREADS) as executor:
        states = list(executor.map(remote_state, urls))
    for url, (size, _) in zip(urls, states, strict=True):
        if size > MAX_TAR_BYTES:
            raise ValueError(f"{url}: {size / 2**30:.0f} GiB; expected at most {MAX_TAR_BYTES >> 30}")
    return tuple(RemoteTar(url, *state) for url, state in zip(urls, states, strict=True))


def bucket_tars(folder: str) -> list[str]:
    """The URLs of the tar files in a folder of a bucket, sorted.

    Raises:
        ValueError: naming the folder, if it cannot be read.
    """
    with _faults(folder):
        files, path = open_bucket(folder)
        names = [name.rpartition("/")[2] for name in files.glob(f"{path}/*.tar")]
    return sorted(f"{folder.rstrip('/')}/{name}" for name in names)  # `path` may lack a host, as of hdfs


def remote_state(url: str) -> tuple[int, str]:
    """The size of what is at a URL, in bytes, and its version, see `RemoteTar`.

    Raises:
        MissingUrlError: if there is nothing.
        UrlError: if it cannot be told.
    """
    if not is_http(url):
        with _faults(url):
            files, path = open_bucket(url)
            about = {key.lower().replace("_", ""): value for key, value in files.info(path).items()}
        size, keys = about["size"], _VERSION_KEYS
    else:
        with _faults(url), _headers(url) as response:
            about = {key.lower(): value for key, value in response.headers.items()}
        size, keys = about.get("content-length"), ("etag", "last-modified")
    if not str(size).isdecimal():
        raise UrlError(f"{url}: the server does not say how large it is; download it, and give the file")
    return int(size), next((str(about[key]) for key in keys if about.get(key)), "")


def _headers(url: str) -> http.client.HTTPResponse:
    try:
        return open_http(url, accept="*/*", timeout_s=TIMEOUT_S, method="HEAD")
    except WebError as error:
        if error.status not in _WITHOUT_HEAD:
            raise
    return open_http(url, accept="*/*", timeout_s=TIMEOUT_S)


def read_url(url: str, max_bytes: int) -> bytes:
    """What is at a URL.

    Raises:
        MissingUrlError: if there is nothing.
        ValueError: naming the URL, if it cannot be read, or is too large.
    """
    size, _ = remote_state(url)
    if size > max_bytes:
        raise ValueError(f"{url}: {size:,} bytes; expected at most {max_bytes:,}")
    with _faults(url), _open(url) as file:
        return file.read(size)


def _download(url: str, path: Path, num_bytes: int) -> None:
    """Copy what is at a URL to a file, whole or not at all; tries again when the connection is lost."""
    for attempt in range(NUM_TRIES):
        try:
            with _faults(url), atomic_write(path) as temporary:
                with _open(url) as source, temporary.open("wb") as file:
                    left = num_bytes + 1  # no more is taken than was said, whatever is sent
                    while chunk := source.read(min(left, _CHUNK_BYTES)):
                        file.write(chunk)
                        left -= len(chunk)
                if (found := temporary.stat().st_size) != num_bytes:
                    raise UrlError(f"{url}: {found:,} of its {num_bytes:,} bytes came")
        except MissingUrlError:
            raise
        except UrlError:
            if attempt == NUM_TRIES - 1:
                raise
            time.sleep(PAUSE_S)
        else:
            return


@contextmanager
def _open(url: str) -> Iterator[BinaryIO]:
    if is_http(url):
        with open_http(url, accept="*/*", timeout_s=TIMEOUT_S) as response:
            yield cast(BinaryIO, response)
    else:
        files, path = open_bucket(url)
        with files.open(path, "rb") as file:
            yield file


@contextmanager
def _faults(url: str) -> Iterator[None]:
    """As `url_faults`; what goes wrong with the cache folder is a UrlError, too."""
    if not (is_http(url) or is_bucket(url)):
        raise UrlError(f"{url}: expected a folder, a tar file, http(s)://, or one of {', '.join(sorted(BUCKETS))}")
    try:
        with url_faults(url, cache_dir()):
            yield
    except OSError as error:
        raise UrlError(
            f"{cache_dir()}: {error.strerror}, so there can be no copy of {url}; ${CACHE_VARIABLE} names another folder"
        ) from error
