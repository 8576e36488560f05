"""Addresses of files on servers and in buckets, and what goes wrong with them in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec

from datasets.web import WebError, public_name
from datasets.words import reason_of

# Buckets, by fsspec's names; others, such as `file` and chains with `::`, can lead to files that nobody named.
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "oci", "oss", "hdfs", "memory"})
_MISSING = (403, 404, 410)  # buckets that nobody may list answer 403


class UrlError(ValueError):
    """A URL cannot be used; in one line that names it."""


class MissingUrlError(UrlError):
    """There is nothing at a URL."""


def is_http(url: str) -> bool:
    """Whether a URL is of a server."""
    return url.partition("://")[0].lower() in ("http", "https")


def is_bucket(url: str) -> bool:
    """Whether a URL is of a bucket."""
    return "::" not in url and url.partition("://")[0].lower() in BUCKETS


def check_no_password(url: str, setting: str) -> None:
    """Raise a ValueError if a setting's URL holds a password, or a user of a server."""
    parts = urlsplit(url)
    if parts.password is not None or (is_http(url) and parts.username):  # Azure's container@account is none
        raise ValueError(
            f"{setting}: {public_name(url)}: expected a URL without a password, since settings are written into the "
            "folders of runs"
        )


def beside(url: str, name: str) -> str:
    """The URL of another file in the same folder."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}").geturl()


def open_bucket(url: str) -> tuple[Any, str]:
    """The file system of a bucket, as fsspec has it, and the path in it that a URL names, without a `/` at its end."""
    files, path = fsspec.core.url_to_fs(url)
    return files, str(path).rstrip("/")


@contextmanager
def url_faults(url: str, folder: Path | None = None) -> Iterator[None]:
    """Whatever goes wrong with a URL is a UrlError of one line that names it.

    Args:
        url: of a server or a bucket.
        folder: on this machine, that the block reads or writes; None if there is none.

    Raises:
        UrlError: in place of each exception, unless it is an OSError about a full disk or about a file in the folder.
    """
    try:
        yield
    except UrlError:
        raise
    except FileNotFoundError as error:
        if _is_in(error.filename, folder):
            raise
        raise MissingUrlError(f"{url}: there is no such file") from error
    except WebError as error:
        kind = MissingUrlError if error.status in _MISSING else UrlError
        raise kind(f"{url}: {error}") from error
    except ImportError as error:
        raise UrlError(f"{url}: a package for it is missing: {reason_of(error)}") from error
    except Exception as error:  # of many types: each package for buckets has its own
        if isinstance(error, OSError) and (error.errno == errno.ENOSPC or _is_in(error.filename, folder)):
            raise
        raise UrlError(
            f"{url}: {reason_of(error)} ({type(error).__name__}); expected an address that this machine reaches, and "
            "credentials that are valid"
        ) from error


def _is_in(file: object, folder: Path | None) -> bool:
    return folder is not None and isinstance(file, str | Path) and Path(file).is_relative_to(folder)
