"""Pools on a web server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labelloop.domain.remote_urls import parsed_prefixes
from labelloop.errors import InvalidInput, NotAllowed, NotFound, Unready
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from oracle_svc.folder_cache import FolderCache
from oracle_svc.remote import web
from oracle_svc.remote.cache import RemoteCache
from oracle_svc.remote.sources import Sources
from tests.queues.http_server import served


class Site:
    """A web server with one file; requests to it are counted by method."""

    def __init__(self) -> None:
        self.data, self.headers = b"a pool", {"ETag": '"1"'}
        self.asked: list[str] = []
        self.cut_short = self.takes_head = False

    def app(self) -> Starlette:
        methods = ["GET", "HEAD"]
        return Starlette(
            routes=[
                Route("/sets/pool.csv", self._file, methods=methods),
                Route("/sets/status/{code}", self._status, methods=methods),
                Route("/sets/to", self._redirect, methods=methods),
                Route("/sets/page", lambda request: Response("<a>", media_type="text/html"), methods=methods),
                Route("/secret", lambda request: PlainTextResponse("secret"), methods=methods),
                Route("/sets/hangs", self._hang, methods=methods),
            ]
        )

    async def _file(self, request: Request) -> Response:
        self.asked.append(request.method)
        if request.method == "HEAD" and not self.takes_head:
            return Response(status_code=405)
        if self.cut_short:
            length = {"Content-Length": str(len(self.data))}
            return StreamingResponse(_cut(self.data), headers=self.headers | length)
        return Response(self.data, headers=self.headers)

    async def _status(self, request: Request) -> Response:
        return Response(status_code=int(request.path_params["code"]))

    async def _redirect(self, request: Request) -> Response:
        return RedirectResponse(request.query_params.get("place", request.headers.get("x-place", "")))

    async def _hang(self, request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError("never")


async def _cut(data: bytes) -> AsyncIterator[bytes]:
    yield data[:2]
    raise ConnectionError("cut")


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def place(site: Site) -> AsyncIterator[str]:
    async with served(site.app()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def cache(place: str, tmp_path: Path) -> RemoteCache:
    prefixes = parsed_prefixes(f"{place}/sets")
    return RemoteCache(FolderCache(tmp_path, 1_000_000), prefixes, Sources(prefixes))


@pytest.mark.parametrize("takes_head", [True, False])
async def test_a_file_is_read_once_until_its_version_changes(
    site: Site, place: str, cache: RemoteCache, takes_head: bool
) -> None:
    site.takes_head = takes_head
    path = await cache.path(f"{place}/sets/pool.csv", "name")
    assert (path.name, path.read_bytes()) == ("pool.csv", b"a pool")
    assert await cache.path(f"{place}/sets/pool.csv", "name") == path
    site.data, site.headers = b"other.", {"ETag": '"2"'}
    assert (await cache.path(f"{place}/sets/pool.csv", "name")).read_bytes() == b"other."


async def test_a_known_file_costs_one_request(site: Site, place: str, cache: RemoteCache) -> None:
    site.takes_head = True
    await cache.path(f"{place}/sets/pool.csv", "name")
    site.asked.clear()
    await cache.path(f"{place}/sets/pool.csv", "name")
    assert site.asked == ["HEAD"]


async def test_a_file_without_a_version_is_read_each_time(site: Site, place: str, cache: RemoteCache) -> None:
    site.headers = {}
    await cache.path(f"{place}/sets/pool.csv", "name")
    site.data = b"other."
    assert (await cache.path(f"{place}/sets/pool.csv", "name")).read_bytes() == b"other."


async def test_a_file_cut_short_is_no_file(site: Site, place: str, cache: RemoteCache, tmp_path: Path) -> None:
    site.takes_head = site.cut_short = True
    with pytest.raises(Unready, match="cannot be read now"):
        await cache.path(f"{place}/sets/pool.csv", "name")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (404, NotFound, "there is no 'http.*HTTP 404"),
        (403, NotAllowed, "credentials .HTTP 403"),
        (503, Unready, "now .HTTP 503"),
        (418, InvalidInput, "HTTP 418"),
    ],
)
async def test_answers_that_are_no_file_are_said_in_a_sentence(
    place: str, cache: RemoteCache, code: int, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=f"^labels: .*{said}"):
        await cache.path(f"{place}/sets/status/{code}", "labels")


async def test_a_page_is_no_pool(place: str, cache: RemoteCache) -> None:
    with pytest.raises(InvalidInput, match="web page: name a file"):
        await cache.path(f"{place}/sets/page", "name")


@pytest.mark.parametrize(
    "target",
    [
        "/secret",
        "/sets/../secret",
        "/sets/%2e%2e/secret",
        "http://169.254.169.254/latest/meta-data",
        "//example.org/sets/pool.csv",
        "file:///etc/passwd",
        "http://user@127.0.0.1/sets/pool.csv",
    ],
)
async def test_a_redirect_out_of_the_allowed_places_is_refused(
    place: str, cache: RemoteCache, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(web._HEADERS, "X-Place", target)
    with pytest.raises(NotAllowed, match=r"redirected to .*LABELLOOP_REMOTE_POOLS") as raised:
        await cache.path(f"{place}/sets/to", "name")
    assert raised.value.reason == "REDIRECTED_OUTSIDE"


async def test_a_redirect_within_them_is_followed_and_a_circle_is_not(
    place: str, cache: RemoteCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(web._HEADERS, "X-Place", "/sets/pool.csv?signature=1")
    assert (await cache.path(f"{place}/sets/to", "name")).read_bytes() == b"a pool"
    monkeypatch.setitem(web._HEADERS, "X-Place", "/sets/to")
    with pytest.raises(InvalidInput, match="redirected more than"):
        await cache.path(f"{place}/sets/to", "name")


async def test_a_server_that_is_away_or_says_nothing_is_named(
    place: str, cache: RemoteCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_TIMEOUT", 0.2)
    with pytest.raises(Unready, match="no answer in time"):
        await cache.path(f"{place}/sets/hangs", "name")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for url in (away, "http://no-such-host.invalid"):
            prefixes = parsed_prefixes(url)
            nowhere = RemoteCache(FolderCache(tmp_path, 10), prefixes, Sources(prefixes))
            with pytest.raises(Unready, match=r"^name: .*cannot be read now \(.+\)"):
                await nowhere.path(f"{url}/pool.csv", "name")
