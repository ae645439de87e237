"""Read the URLs of pools on object stores and web servers, and decide which ones may be fetched. Pure functions.

A client names a URL, and the oracle fetches it with its own credentials. So only URLs below prefixes that the operator
names are fetched, and a URL that could mean another place than its text says is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from labelloop.errors import InvalidInput

SETTING = "LABELLOOP_REMOTE_POOLS"
BUCKETS, WEB = ("s3", "gs"), {"https": 443, "http": 80}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_HOST = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_LENGTH_MAX = 2_000


@dataclass(frozen=True)
class RemoteUrl:
    """A URL, normalised: two that are equal mean the same file or folder.

    Attributes:
        scheme: ``s3``, ``gs``, ``https`` or ``http``.
        host: The bucket, or the host in lower case.
        port: 0 for buckets.
        segments: The parts of the path between slashes; decoded for web servers, and as they are for buckets.
    """

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...]

    def lies_below(self, prefix: RemoteUrl) -> bool:
        place, of_prefix = (self.scheme, self.host, self.port), (prefix.scheme, prefix.host, prefix.port)
        return place == of_prefix and self.segments[: len(prefix.segments)] == prefix.segments

    @property
    def name(self) -> str:
        """The last part of the path, or the bucket or host."""
        return self.segments[-1] if self.segments else self.host

    @property
    def path(self) -> str:
        """The path without a slash at its beginning, encoded for web servers; the key for buckets."""
        return "/".join(quote(each, safe="") if self.scheme in WEB else each for each in self.segments)

    def __str__(self) -> str:
        port = f":{self.port}" if self.port != WEB.get(self.scheme, 0) else ""
        return f"{self.scheme}://{self.host}{port}/{self.path}"


def is_remote(text: str) -> bool:
    """Return whether ``text`` is a URL of any kind, not a path."""
    return _URL.fullmatch(text) is not None


def parsed_url(text: str) -> RemoteUrl:
    """Return the URL that ``text`` is. Raises ValueError, whose text follows the URL in a sentence."""
    found = _URL.fullmatch(text)
    if not found or len(text) > _LENGTH_MAX:
        raise ValueError(f"is no URL of up to {_LENGTH_MAX:,} characters")
    scheme, rest = found[1].lower(), found[2]
    if scheme not in (*BUCKETS, *WEB):
        raise ValueError(f"begins with {scheme}://, but pools are read from s3://, gs:// and https:// alone")
    if "\\" in rest or not rest.isprintable():
        raise ValueError("holds a backslash or a character that cannot be printed")
    if "?" in rest or "#" in rest:
        raise ValueError("has a query or a fragment: signed links are secrets, which the run's record would show")
    place, _, path = rest.partition("/")
    if "@" in place:
        raise ValueError("holds a user or password, which the run's record would show: the oracle has credentials")
    host, port = _bucket(place) if scheme in BUCKETS else _host(place, WEB[scheme])
    return RemoteUrl(scheme, host, port, _segments(path, encoded=scheme in WEB))


def parsed_prefixes(text: str) -> tuple[RemoteUrl, ...]:
    """Return the prefixes in ``text``, which commas separate. Raises ValueError for one that is no URL."""
    prefixes = []
    for each in filter(None, (part.strip() for part in text.split(","))):
        try:
            prefixes.append(parsed_url(each))
        except ValueError as error:
            raise ValueError(f"{each!r} {error}") from error
    return tuple(prefixes)


def allowed_url(text: str, prefixes: Sequence[RemoteUrl], field: str) -> RemoteUrl:
    """Return the URL that a client names in ``field``. Raises InvalidInput unless it lies below one of ``prefixes``."""
    if not prefixes:
        message = f"{field}: {text!r} is a URL, but this oracle reads none: ask its operator to set {SETTING}"
        raise InvalidInput("REMOTE_NOT_ALLOWED", message, field=field, url=text)
    try:
        url = parsed_url(text)
    except ValueError as error:
        raise InvalidInput("BAD_URL", f"{field}: {text!r} {error}", field=field, url=text) from error
    if not lies_below_any(url, prefixes):
        message = (
            f"{field}: {text!r} lies outside the places that this oracle reads pools from: name one of them, or ask "
            f"its operator to add it to {SETTING}"
        )
        raise InvalidInput("REMOTE_NOT_ALLOWED", message, field=field, url=text)
    return url


def lies_below_any(url: RemoteUrl, prefixes: Iterable[RemoteUrl]) -> bool:
    return any(url.lies_below(prefix) for prefix in prefixes)


def _bucket(place: str) -> tuple[str, int]:
    if not _BUCKET.fullmatch(place):
        raise ValueError("does not begin with the name of a bucket")
    return place, 0


def _host(place: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(place)
    port = int(found[2] or default_port) if found else 0
    if not found or not 1 <= port <= 65_535:
        raise ValueError("does not begin with a host, such as data.example.org")
    return found[1].lower(), port


def _segments(path: str, *, encoded: bool) -> tuple[str, ...]:
    written = path.removesuffix("/").split("/") if path else []
    segments = tuple(_decoded(each) if encoded else each for each in written)
    for segment in segments:
        plain = unquote(segment)
        if segment in ("", ".", "..") or plain in (".", "..") or "/" in plain or "\\" in plain:
            raise ValueError(f"has {segment!r} between two slashes, which may lead elsewhere")
        if not plain.isprintable():
            raise ValueError("holds a character that cannot be printed")
    return segments


def _decoded(segment: str) -> str:
    try:
        decoded = unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    if unquote(decoded) != decoded:
        raise ValueError(f"has {segment!r}, which is encoded twice")
    return decoded
