"""HTTP requests as bytes, good and odd ones, and their sending."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

_READ_MAX = 64 * 1024
_METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "\x00", "A" * 500]
_SEGMENTS = ["%00", "..", "%2e%2e", "%ff", "nobody", "x" * 3_000, "a%0d%0ab", "🦆", "", "*", "%", "open%2f", "done"]
_HEADER_VALUES = ["", "\xff", "x" * 9_000, "0", "-1", "99999999999999999999", "chunked", "null", "*/*", "a;b=c,,", "\t"]
_HEADERS = [
    *("Cookie", "Host", "Origin", "Sec-Fetch-Site", "Content-Length", "Content-Type", "Transfer-Encoding", "Upgrade"),
    *("X-Labelloop", "Accept-Encoding", "Range", "Expect", "Connection", "X-Forwarded-For", "webhook-timestamp"),
]
_TEXTS = ["", "\0", "\ud800", "x" * 20_000, "done", "open/0/1/0", "../..", "\u202e", "1", "NaN"]
_NUMBERS = [0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308]
_leaves = st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.sampled_from(_TEXTS) | st.text(max_size=10)
_values = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_BODIES = [
    b"",
    b"null",
    b"[" * 50_000,
    b'{"a":' * 5_000,
    b"\xff\xfe",
    b"1" * 30_000,
    b"x" * 2_000_000,
    b'{"count": NaN}',
]


@dataclass(frozen=True)
class Http:
    """A request; ``body`` is sent as JSON unless it is bytes."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""

    def data(self) -> bytes:
        """Return the bytes to send."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Host": "oracle", "Connection": "close", "Content-Length": str(len(body)), **self.headers}
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("utf-8", errors="surrogatepass") + body


@st.composite
def odd(draw: st.DrawFn, good: Http) -> Http:
    """``good`` with its method, a part of its path, its query, a header, or its body changed, one or two of these."""
    changed = good
    for what in draw(st.lists(st.sampled_from(("method", "path", "query", "header", "body")), min_size=1, max_size=2)):
        if what == "method":
            changed = replace(changed, method=draw(st.sampled_from(_METHODS)))
        elif what == "path":
            changed = replace(changed, target=_other_path(draw, changed.target))
        elif what == "query":
            odd_text = draw(st.sampled_from(_SEGMENTS))
            changed = replace(changed, target=f"{changed.target}?token={odd_text}&name={odd_text}")
        elif what == "header":
            other = {draw(st.sampled_from(_HEADERS)): draw(st.sampled_from(_HEADER_VALUES))}
            changed = replace(changed, headers={**changed.headers, **other})
        else:
            changed = replace(changed, body=draw(st.sampled_from(_BODIES) | odd_json(changed.body)))
    return changed


def _other_path(draw: st.DrawFn, target: str) -> str:
    parts = target.split("/")
    parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(_SEGMENTS))
    return "/".join(parts)


@st.composite
def odd_json(draw: st.DrawFn, good: Any) -> Any:
    """``good`` with one of its values, at any depth, replaced."""
    if isinstance(good, dict) and good and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(good)))
        return {**good, key: draw(odd_json(good[key]))}
    if isinstance(good, list) and good and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(good) - 1))
        return [*good[:place], draw(odd_json(good[place])), *good[place + 1 :]]
    return draw(_values)


async def exchange(port: int, data: bytes, within_s: float, eof_after_s: float | None = None) -> int:
    """Send ``data`` and return the status of the answer; 0 if the connection is closed without one.

    Args:
        eof_after_s: After this time without an answer the server is told that nothing more comes, since it may wait for
            the rest of a damaged request.

    Raises:
        TimeoutError: The server neither answered nor closed the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(within_s):
            with suppress(OSError):  # it may answer, and close, before it has read everything
                writer.write(data)
                await writer.drain()
            return _status(await _head(reader, writer, eof_after_s))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, eof_after_s: float | None) -> bytes:
    reading = asyncio.ensure_future(reader.read(_READ_MAX))
    try:
        await asyncio.wait([reading], timeout=eof_after_s)
        if not reading.done():
            with suppress(OSError):
                writer.write_eof()
        return await reading
    except OSError:
        return b""
    finally:
        reading.cancel()


def _status(head: bytes) -> int:
    return int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0
