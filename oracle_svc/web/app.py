"""The labelling page: a web application over the oracle's own service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from labelloop.events.v1.events_pb2 import LabelSource
from labelloop.oracle.v1 import oracle_pb2 as pb
from labelloop.wire.errors import LabelloopError
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from oracle_svc.web.answering import HERE, SafeHeaders, page, refuse
from oracle_svc.web.bodies import count_of, json_object, request_ids_of, results_of, text_of
from oracle_svc.web.gate import Gate, check_own_page
from oracle_svc.web.links import on_own_page
from oracle_svc.web.seam import Book, Run, Service
from oracle_svc.web.settings import WebSettings
from oracle_svc.web.streams import HEARTBEAT_S, Streams, heartbeat

LEASE_S = 300  # the page renews while somebody is there; who walks off holds up the others for no longer
AHEAD_MAX = 50
_SEND_TIMEOUT_S = 30.0  # for a browser that reads no more


def make_app(
    service: Service, book: Book, settings: WebSettings, routes: Sequence[BaseRoute] = (), lease_s: int = LEASE_S
) -> Starlette:
    """``routes`` are served beside the page, and authenticate by themselves. ``app.state.streams`` is to be ended
    before the server stops: streams do not end by themselves."""
    gate, streams = Gate(settings), Streams(book)
    site = Site(service, book, gate, streams, settings.http_url, lease_s)
    app = Starlette(
        routes=[
            *routes,
            Route("/", gate.page(site.index)),
            Route("/runs/{run_id}", gate.page(site.run)),
            Route("/api/session", site.session),
            Route("/api/runs/{run_id}/next", gate.write(site.lease), methods=["POST"]),
            Route("/api/runs/{run_id}/answers", gate.write(site.answer), methods=["POST"]),
            Route("/api/runs/{run_id}/release", gate.write(site.release), methods=["POST"]),
            Route("/api/runs/{run_id}/events", gate.read(site.events)),
            Route("/login", site.login, methods=["GET"]),
            Route("/login", site.sign_in, methods=["POST"]),
            Route("/logout", site.sign_out, methods=["POST"]),
            Route("/healthz", site.health),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[Middleware(SafeHeaders)],
        exception_handlers={LabelloopError: refuse},
    )
    app.state.streams = streams
    return app


class Site:
    """What is served; see the routes. Links to samples begin with ``base_url``."""

    def __init__(self, service: Service, book: Book, gate: Gate, streams: Streams, base_url: str, lease_s: int) -> None:
        self._service, self._book, self._gate, self._streams = service, book, gate, streams
        self._base_url, self._lease_s = base_url, lease_s

    async def index(self, request: Request, annotator: str) -> Response:
        """The runs that people label; where there is one, straight to it."""
        runs = [run for run in self._book.runs.values() if run.spec.label_source == LabelSource.LABEL_SOURCE_QUEUE]
        if len(runs) == 1:
            return RedirectResponse(f"/runs/{runs[0].run_id}", status_code=303)
        backlog = await self._service.GetBacklog(pb.GetBacklogRequest(), None)
        waiting = {each.run_id: each for each in backlog.runs}
        rows = [_row(run, waiting.get(run.run_id, pb.Backlog())) for run in runs]
        return page("runs.html.j2", annotator=annotator, rows=sorted(rows, key=lambda row: row["over"]))

    async def run(self, request: Request, annotator: str) -> Response:
        run = self._book.get(request.path_params["run_id"])
        description = run.pool.description if run.pool else ""
        return page(
            "page.html.j2",
            run=run,
            annotator=annotator,
            description=description,
            classes=list(run.pool.classes) if run.pool else [],
            by_token=self._gate.asks_for_token,
            lease_s=self._lease_s,
        )

    async def session(self, request: Request) -> Response:
        """Who asks; null where they have not said."""
        return JSONResponse({"name": self._gate.who(request) or None})

    async def lease(self, request: Request, annotator: str) -> Response:
        """What to label: those the annotator holds already come first, without what the page has of them."""
        run_id, body = self._book.get(request.path_params["run_id"]).run_id, await json_object(request)
        there = set(request_ids_of(body, "have", run_id))
        asked = pb.LeaseNextRequest(
            run_id=run_id, annotator=annotator, count=count_of(body, AHEAD_MAX), lease_s=self._lease_s
        )
        leased = await self._service.LeaseNext(asked, None)
        for each in leased.requests:
            each.uri = on_own_page(each.uri, self._base_url)
            if each.request_id in there:
                each.ClearField("content")
        return _json(leased)

    async def answer(self, request: Request, annotator: str) -> Response:
        run_id, body = self._book.get(request.path_params["run_id"]).run_id, await json_object(request)
        results = results_of(body, run_id, annotator)
        return _json(await self._service.SubmitResults(pb.SubmitResultsRequest(results=results), None))

    async def release(self, request: Request, annotator: str) -> Response:
        run_id, body = self._book.get(request.path_params["run_id"]).run_id, await json_object(request)
        asked = pb.ReleaseLeasesRequest(annotator=annotator, request_ids=request_ids_of(body, "request_ids", run_id))
        return _json(await self._service.ReleaseLeases(asked, None))

    async def events(self, request: Request, annotator: str) -> Response:
        run_id = self._book.get(request.path_params["run_id"]).run_id
        told = self._streams.progress(run_id)
        return EventSourceResponse(told, ping=HEARTBEAT_S, ping_message_factory=heartbeat, send_timeout=_SEND_TIMEOUT_S)

    async def login(self, request: Request) -> Response:
        if not self._gate.asks_for_token:
            return RedirectResponse("/", status_code=303)
        known = self._gate.who(request) is not None
        return page("login.html.j2", known=known, wrong_link=request.query_params.get("wrong") == "link")

    async def sign_in(self, request: Request) -> Response:
        check_own_page(request)
        body = await json_object(request)
        return self._gate.sign_in(request, text_of(body, "token"), text_of(body, "name"))

    async def sign_out(self, request: Request) -> Response:
        check_own_page(request)
        return self._gate.sign_out(request)

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")


def _row(run: Run, backlog: pb.Backlog) -> dict[str, Any]:
    progress = run.progress
    return {
        "run_id": run.run_id,
        "description": run.pool.description if run.pool else "",
        "tool": run.spec.queue.tool,
        "over": run.over,
        "open": backlog.open,
        "leased": backlog.leased,
        "labels": len(progress.labels),
        "budget": run.spec.label_budget,
        "accuracy": progress.points[-1].accuracy if progress.points else None,
    }


def _json(
    message: pb.LeaseNextResponse | pb.SubmitResultsResponse | pb.ReleaseLeasesResponse,
) -> Response:
    return JSONResponse(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
