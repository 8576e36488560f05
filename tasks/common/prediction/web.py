"""Images at URLs, and what else is at one."""

from __future__ import annotations

import http.client
import time
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from datasets.images.headers import SIGNATURE_BYTES, format_of
from datasets.images.read import UnreadableImageError
from datasets.web import WebError, open_http, public_name

TIMEOUT_S, MAX_DOWNLOAD_S = 10, 120  # without any data; for all of an image
MAX_IMAGE_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**20
_ACCEPTED = "image/*, video/*;q=0.9, */*;q=0.1"
_STREAM_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "udp", "rtp", "srt"})
_STREAM_TYPES = frozenset(
    {"multipart/x-mixed-replace", "application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl"}
)


class UrlContent(NamedTuple):
    """What is at a URL.

    Attributes:
        kind: an image, a video that ends, or a live stream.
        data: the bytes of an image.
    """

    kind: Literal["image", "video", "stream"]
    data: bytes = b""


def is_url(text: str) -> bool:
    """Whether a word is a URL of a kind that is read."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.lower() in _STREAM_SCHEMES | {"http", "https"}


def open_url(url: str) -> UrlContent:
    """Look what is at a URL, and read it if it is an image.

    Raises:
        UnreadableImageError: if it cannot be read, or is neither an image nor a video.
    """
    if urlsplit(url).scheme.lower() in _STREAM_SCHEMES:
        return UrlContent("stream")
    try:
        with open_http(url, accept=_ACCEPTED, timeout_s=TIMEOUT_S) as response:
            start = response.read(SIGNATURE_BYTES)
            if format_of(start) is not None:
                return UrlContent("image", start + _read_rest(response))
            content_type = response.headers.get_content_type()
    except WebError as error:
        raise _unreadable(url, str(error)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreadable(url, f"cannot be read ({getattr(error, 'reason', None) or error})") from error
    if content_type in _STREAM_TYPES:
        return UrlContent("stream")
    if content_type.startswith("video/"):
        return UrlContent("video")
    raise _unreadable(url, f"neither an image that is read nor a video, but {content_type}")


def _read_rest(response: http.client.HTTPResponse) -> bytes:
    """Raises a ValueError if it is too long, or takes too long."""
    chunks, num_bytes, deadline = [], 0, time.monotonic() + MAX_DOWNLOAD_S
    while chunk := response.read1(_CHUNK_BYTES):  # what has arrived; `read` waits for all
        chunks.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > MAX_IMAGE_BYTES:
            raise ValueError(f"more than {MAX_IMAGE_BYTES / 2**20:.0f} MiB")
        if time.monotonic() > deadline:
            raise ValueError(f"not complete after {MAX_DOWNLOAD_S} s")
    return b"".join(chunks)


def _unreadable(url: str, reason: str) -> UnreadableImageError:
    return UnreadableImageError(f"{public_name(url)}: {' '.join(reason.split())}")
