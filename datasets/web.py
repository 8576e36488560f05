"""Open URLs that a user has typed: redirects to http and https alone, and a password for its own server alone."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit


def public_name(url: str) -> str:
    """A URL without the user and the password in it, for messages and records."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open_http(
    url: str, *, accept: str, timeout_s: float, method: Literal["GET", "HEAD"] = "GET"
) -> http.client.HTTPResponse:
    """The answer to a request, to be closed.

    Args:
        url: http or https; its user and password go to its server in a header, where servers expect them.
        accept: the types of content that are wanted.
        timeout_s: without any data.
        method: HEAD for the headers alone.

    Raises:
        WebError: with the reason, without the URL.
    """
    try:
        return urllib.request.build_opener(_Redirects).open(_request(url, accept, method), timeout=timeout_s)  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        error.close()
        raise WebError(f"the server answered {error.code} ({error.reason})", error.code) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WebError(f"cannot be read ({getattr(error, 'reason', None) or error})") from error


class WebError(ValueError):
    """Why a URL cannot be opened.

    Attributes:
        status: the server's answer, such as 404; None if there was none.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        """Args: reason, status: see above."""
        super().__init__(reason)
        self.status = status


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and sends the password to no other server than the one it is for."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request for the new URL."""
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("http", "https"):
            fp.close()
            raise ValueError(f"it redirects to {after.scheme}://, which is not followed")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (after.scheme, after.netloc) != (before.scheme, before.netloc):
            request.remove_header("Authorization")
        return request


def _request(url: str, accept: str, method: str) -> urllib.request.Request:
    parts = urlsplit(url)
    headers = {"User-Agent": "mobilenet-suite", "Accept": accept}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    return urllib.request.Request(public_name(url), headers=headers, method=method)
