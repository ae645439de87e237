"""Choose where the files below a URL come from."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from labelloop.artifacts.filesystems import opened
from labelloop.domain.remote_urls import WEB, RemoteUrl

from oracle_svc.remote.buckets import Buckets
from oracle_svc.remote.objects import Source
from oracle_svc.remote.web import WebServers


class Sources:
    """Web servers and object stores, the latter opened at their first use."""

    def __init__(self, prefixes: Sequence[RemoteUrl]) -> None:
        self._web = WebServers(prefixes)
        self._buckets: dict[str, Buckets] = {}
        self._opening = Lock()

    def __call__(self, url: RemoteUrl, field: str) -> Source:
        """Return the source of ``url``. Raises InvalidInput if its library is not installed."""
        if url.scheme in WEB:
            return self._web
        with self._opening:
            if url.scheme not in self._buckets:
                self._buckets[url.scheme] = Buckets(opened(f"{url.scheme}://{url.host}", field)[0])
            return self._buckets[url.scheme]
