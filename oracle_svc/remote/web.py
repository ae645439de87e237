"""Read files from web servers. Redirects are followed only to where the operator allows to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
from labelloop import __version__
from labelloop.domain.remote_urls import SETTING, RemoteUrl, lies_below_any, parsed_url
from labelloop.errors import InvalidInput, NotAllowed

from oracle_svc.remote.objects import RemoteObject

_BLOCK_BYTES = 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_REDIRECTS_MAX = 5
_NO_HEAD = (405, 501)
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"labelloop/{__version__}"}


class WebServers:
    """Files on web servers, below ``prefixes``. A server cannot list a folder: each URL is a file."""

    def __init__(self, prefixes: Sequence[RemoteUrl]) -> None:
        self._prefixes = prefixes

    def listed(self, url: RemoteUrl) -> list[RemoteObject]:
        with self._answer("HEAD", url) as answer:
            if answer.status_code not in _NO_HEAD:
                return [_described(url, answer)]
        with self._answer("GET", url) as answer:
            return [_described(url, answer)]

    def blocks(self, url: RemoteUrl, each: RemoteObject) -> Iterator[bytes]:
        with self._answer("GET", url) as answer:
            answer.raise_for_status()
            yield from answer.iter_bytes(_BLOCK_BYTES)

    @contextmanager
    def _answer(self, method: str, url: RemoteUrl) -> Iterator[httpx.Response]:
        """Send a request, follow redirects, and yield the answer before its body is read."""
        place = httpx.URL(str(url))
        with httpx.Client(headers=_HEADERS, timeout=_TIMEOUT) as client:
            for _ in range(_REDIRECTS_MAX + 1):
                with client.stream(method, place) as answer:
                    if not answer.has_redirect_location:
                        yield answer
                        return
                    place = self._redirected(url, place, answer.headers["location"])
        message = f"{str(url)!r} is redirected more than {_REDIRECTS_MAX} times: name the place where the file is"
        raise InvalidInput("TOO_MANY_REDIRECTS", message, url=url)

    def _redirected(self, url: RemoteUrl, place: httpx.URL, location: str) -> httpx.URL:
        """Return where a redirect leads. Raises NotAllowed if that is no place to read from."""
        try:
            target = place.join(location)
            known = lies_below_any(parsed_url(str(target.copy_with(query=None, fragment=None))), self._prefixes)
        except (httpx.InvalidURL, ValueError):
            known = False
        if not known:
            message = (
                f"{str(url)!r} is redirected to {location[:200]!r}, outside the places that this oracle reads pools "
                f"from: ask its operator to add that place to {SETTING}"
            )
            raise NotAllowed("REDIRECTED_OUTSIDE", message, url=url)
        return target


def _described(url: RemoteUrl, answer: httpx.Response) -> RemoteObject:
    answer.raise_for_status()
    headers = answer.headers
    if headers.get("content-type", "").startswith("text/html"):
        message = f"{str(url)!r} is a web page: name a file, because web servers do not list folders"
        raise InvalidInput("NOT_A_FILE", message, url=url)
    stamp = " ".join(f"{name}={headers[name]}" for name in ("etag", "last-modified") if name in headers)
    length = headers.get("content-length", "")
    size = int(length) if length.isdecimal() and "content-encoding" not in headers else -1
    return RemoteObject(url.name, size, f"{stamp} size={size}" if stamp else "")
