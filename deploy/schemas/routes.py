"""List the routes of the oracle's HTTP port as the oracle builds them, and which of them are for its own page alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr
from starlette.routing import BaseRoute, Mount, Route

from oracle_svc.integrations.label_studio.endpoints import call_routes
from oracle_svc.integrations.webhook.integration import Webhook
from oracle_svc.samples.signed_urls import SignedUrls
from oracle_svc.web.app import make_app
from oracle_svc.web.sample_endpoint import sample_route
from oracle_svc.web.settings import WebSettings

_PAGE = "the labelling page's own; it may change with any release, and takes only calls of that page"
PRIVATE: Mapping[str, str] = {
    "/": "a page for people",
    "/runs/{run_id}": "a page for people",
    "/login": "a page for people",
    "/logout": _PAGE,
    "/static": "files of the page",
    "/api/session": _PAGE,
    "/api/next-run": _PAGE,
    "/api/runs/{run_id}/next": _PAGE,
    "/api/runs/{run_id}/answers": _PAGE,
    "/api/runs/{run_id}/release": _PAGE,
    "/api/runs/{run_id}/events": _PAGE,
}
"""Paths that are not published, and why. Programs that label use gRPC, a queue or the webhook."""

_ANY_SECRET = "whsec_" + "A" * 32


def routes() -> list[BaseRoute]:
    """Return all routes that an oracle may serve."""
    nothing: Any = None  # no route is called
    settings = WebSettings(http_token=SecretStr("not used: no route is called"))
    beside = [
        *Webhook("http://tool", [_ANY_SECRET]).routes(),
        *call_routes(_ANY_SECRET, nothing, nothing),
        sample_route(SignedUrls("http://oracle", _ANY_SECRET), nothing),
    ]
    return make_app(nothing, nothing, settings, beside).routes


def paths_and_methods(served: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Yield path and method, in lower case, of each route; HEAD is left out, as GET implies it."""
    for each in served:
        if isinstance(each, Mount):
            yield each.path, "get"
        elif isinstance(each, Route):
            yield from ((each.path, method.lower()) for method in sorted(each.methods or ()) if method != "HEAD")
