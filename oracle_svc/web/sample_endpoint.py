"""Serve samples and guidelines at their signed links, to pages of any site."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from labelloop.errors import NotAllowed
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from oracle_svc.samples.encoding import Picture
from oracle_svc.samples.signed_urls import GUIDELINES, PATH, SignedUrls

Show = Callable[[str, int], Awaitable[Picture]]
_KEPT_S = 3600
_FOR_ALL_PAGES = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Repr-Digest",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": f"private, max-age={_KEPT_S}",
}


def sample_route(links: SignedUrls, show: Show) -> Route:
    """Build ``GET /samples/<run>/<sample>?key=...``: 403 for a wrong key, then the errors that ``show`` raises."""

    async def endpoint(request: Request) -> Response:
        run_id, sample_id = request.path_params["run_id"], request.path_params["sample_id"]
        _check_key(links, request, run_id, sample_id)
        return _answer(request, await show(run_id, int(sample_id)))  # a number, as we signed it

    return Route(f"{PATH}/{{run_id}}/{{sample_id}}", endpoint, methods=["GET"])


def guidelines_route(links: SignedUrls, read: Callable[[str], str]) -> Route:
    """Build ``GET /samples/<run>/guidelines?key=...``: 403 for a wrong key, then the errors that ``read`` raises.

    It must come before the route of samples.
    """

    async def endpoint(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        _check_key(links, request, run_id, GUIDELINES)
        return PlainTextResponse(read(run_id), headers=_FOR_ALL_PAGES)

    return Route(f"{PATH}/{{run_id}}/{GUIDELINES}", endpoint, methods=["GET"])


def _check_key(links: SignedUrls, request: Request, run_id: str, what: str) -> None:
    if not links.is_right(request.query_params.get("key", ""), run_id, what):
        message = (
            "this key opens no sample: take the whole link from the request; links end when LABELLOOP_HTTP_SECRET, "
            "or without it LABELLOOP_HTTP_TOKEN, is changed"
        )
        raise NotAllowed("BAD_KEY", message)


def _answer(request: Request, picture: Picture) -> Response:
    digest = picture.sha256
    tag = f'"{digest}"'
    headers = {**_FOR_ALL_PAGES, "ETag": tag}
    if _knows(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"
    return Response(picture.content, media_type=picture.media_type, headers=headers)


def _knows(header: str, tag: str) -> bool:
    """Return whether a browser has the content already. Proxies that compress make tags weak."""
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(","))
