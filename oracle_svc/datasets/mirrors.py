"""Download files from the first public mirror that responds, and give up within seconds without a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

import httpx
import structlog

MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
ANSWER_WITHIN_S = 4.0
_DOWNLOAD_WITHIN_S = 120.0

Fetch = Callable[[str], bytes]
"""Returns the body at a URL, or raises any exception."""

log = structlog.get_logger(__name__)


def http_fetch(url: str, *, transport: httpx.BaseTransport | None = None) -> bytes:
    """Return the body at ``url``. Raises httpx.HTTPError, also if the download takes longer than two minutes."""
    deadline = time.monotonic() + _DOWNLOAD_WITHIN_S
    timeout = httpx.Timeout(5.0, connect=3.0)
    chunks = []
    with (
        httpx.Client(transport=transport, timeout=timeout, follow_redirects=True) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"{url} took longer than {_DOWNLOAD_WITHIN_S} s", request=response.request)
    return b"".join(chunks)


def answering(mirrors: Sequence[str], probe: Callable[[str], object], *, within_s: float) -> Iterator[str]:
    """Yield the mirrors for which ``probe`` succeeds, fastest first, until ``within_s`` seconds have passed."""
    answers: SimpleQueue[str | None] = SimpleQueue()

    def ask(mirror: str) -> None:
        answers.put(mirror if succeeds(probe, mirror) else None)

    for mirror in mirrors:
        # A daemon thread each, not a pool: name resolution ignores timeouts, and the interpreter joins a pool at exit.
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    deadline = time.monotonic() + within_s
    for _ in mirrors:
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return
        if answer is not None:
            yield answer


def succeeds(action: Callable[[str], object], mirror: str) -> bool:
    """Run ``action(mirror)`` and return whether it succeeded; log the reason if not."""
    try:
        action(mirror)
    except Exception as error:  # any failure of one mirror or the route to it: the next may work
        log.warning("mirror_failed", mirror=mirror, error=repr(error))
        return False
    return True
