"""Serve the labelling page, a web application that calls the oracle's own service."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from google.protobuf.json_format import MessageToDict
from labelloop.domain.ids import RequestId
from labelloop.errors import LabelloopError
from labelloop.oracle.v1 import oracle_pb2 as pb
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from oracle_svc.domain.current_answers import said_by
from oracle_svc.domain.guidelines_html import guidelines_html
from oracle_svc.domain.listed_run import EndedRun, ListedRun, listed_run
from oracle_svc.domain.result_validation import where_taking_part
from oracle_svc.samples.signed_urls import on_own_page
from oracle_svc.web.auth import Auth, check_own_page
from oracle_svc.web.ended_sessions import EndedSessions
from oracle_svc.web.ports import Projections, Run, Service
from oracle_svc.web.request_parsing import count_of, object_of, request_ids_of, results_of, text_of
from oracle_svc.web.responses import HERE, SafeHeaders, page, refuse
from oracle_svc.web.settings import WebSettings
from oracle_svc.web.sse import HEARTBEAT_S, EventStreams, HeldUp, heartbeat

LEASE_S = 300  # the page renews while it is used; an annotator who leaves holds up others for no longer
AHEAD_MAX = 50
_SEND_TIMEOUT_S = 30.0  # for a browser that no longer reads


def make_app(
    service: Service,
    projections: Projections,
    settings: WebSettings,
    routes: Sequence[BaseRoute] = (),
    lease_s: int = LEASE_S,
    ended: EndedSessions | None = None,
    held_up: HeldUp = lambda _: (),
) -> Starlette:
    """Build the web application.

    ``app.state.streams`` must be ended before the server stops: event streams do not end by themselves.

    Args:
        routes: Served beside the page; they authenticate their callers themselves.
        lease_s: Seconds that the page leases requests for.
        ended: Sessions that were ended; None to remember those that end here.
        held_up: Returns what holds up the run of an id.
    """
    auth, streams = Auth(settings, EndedSessions() if ended is None else ended), EventStreams(projections, held_up)
    site = Site(service, projections, auth, streams, settings.http_url, lease_s)
    app = Starlette(
        routes=[
            *routes,
            Route("/", auth.page(site.index)),
            Route("/runs/{run_id}", auth.page(site.run)),
            Route("/api/session", site.session),
            Route("/api/next-run", auth.read(site.next_run)),
            Route("/api/runs/{run_id}/next", auth.write(site.lease), methods=["POST"]),
            Route("/api/runs/{run_id}/answers", auth.write(site.answer), methods=["POST"]),
            Route("/api/runs/{run_id}/release", auth.write(site.release), methods=["POST"]),
            Route("/api/runs/{run_id}/events", auth.read(site.events)),
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
    """Handlers of the routes in :func:`make_app`. Links to samples begin with ``base_url``."""

    def __init__(
        self, service: Service, projections: Projections, auth: Auth, streams: EventStreams, base_url: str, lease_s: int
    ) -> None:
        self._service, self._projections, self._auth, self._streams = service, projections, auth, streams
        self._base_url, self._lease_s = base_url, lease_s

    async def index(self, request: Request, annotator: str) -> Response:
        """List the runs that people label; if there is only one, redirect to it."""
        runs = [run for run in self._projections.runs.each(listed_run, _listed_of_ended) if run.for_people]
        if len(runs) == 1:
            return RedirectResponse(f"/runs/{runs[0].run_id}", status_code=303)
        backlog = await self._service.GetBacklog(pb.GetBacklogRequest(), None)
        waiting = {each.run_id: each for each in backlog.runs}
        rows = [_row(run, waiting.get(run.run_id, pb.Backlog())) for run in runs]
        return page("runs.html.j2", annotator=annotator, rows=sorted(rows, key=lambda row: row["over"]))

    async def run(self, request: Request, annotator: str) -> Response:
        run = self._projections.get(request.path_params["run_id"])
        description = run.pool.description if run.pool else ""
        return page(
            "page.html.j2",
            run=run,
            annotator=annotator,
            description=description,
            classes=list(run.pool.classes) if run.pool else [],
            guidelines=guidelines_html(run.spec.queue.guidelines),
            version=version_of(run),
            by_token=self._auth.asks_for_token,
            lease_s=self._lease_s,
        )

    async def session(self, request: Request) -> Response:
        """Return the annotator's name, null if they have not given it, and whether they need no token."""
        name = self._auth.who(request)
        return JSONResponse({"name": name or None, "known": name is not None})

    async def lease(self, request: Request, annotator: str) -> Response:
        """Lease requests, those already held first; without the content of samples that the page has."""
        run_id, body = self._projections.get(request.path_params["run_id"]).run_id, await object_of(request)
        there = set(request_ids_of(body, "have", run_id))
        asked = pb.LeaseNextRequest(
            run_id=run_id, annotator=annotator, count=count_of(body, AHEAD_MAX), lease_s=self._lease_s
        )
        leased = await self._service.LeaseNext(asked, None)
        for each in leased.requests:
            each.uri = on_own_page(each.uri, self._base_url)
            each.ClearField("guidelines")  # the page has them
            each.ClearField("guidelines_uri")
            if each.request_id in there:
                each.ClearField("content")
        return _json(leased)

    async def answer(self, request: Request, annotator: str) -> Response:
        run_id, body = self._projections.get(request.path_params["run_id"]).run_id, await object_of(request)
        results = results_of(body, run_id, annotator)
        taken = await self._service.SubmitResults(pb.SubmitResultsRequest(results=results), None)
        run = self._projections.get(run_id)
        own = all(said_by(run, RequestId.parse(each.request_id).sample_id, annotator) for each in results)
        return _json(taken, own=own)

    async def next_run(self, request: Request, annotator: str) -> Response:
        """Return a run other than the one in ``but`` that has samples to label; null if there is none."""
        but = request.query_params.get("but", "")
        backlog = await self._service.GetBacklog(pb.GetBacklogRequest(), None)
        asking = [each.run_id for each in backlog.runs if each.open and not each.tool and each.run_id != but]
        return JSONResponse({"run_id": asking[0] if asking else None})

    async def release(self, request: Request, annotator: str) -> Response:
        run_id, body = self._projections.get(request.path_params["run_id"]).run_id, await object_of(request)
        asked = pb.ReleaseLeasesRequest(annotator=annotator, request_ids=request_ids_of(body, "request_ids", run_id))
        return _json(await self._service.ReleaseLeases(asked, None))

    async def events(self, request: Request, annotator: str) -> Response:
        run_id = self._projections.get(request.path_params["run_id"]).run_id
        self._streams.admit(annotator)
        told = self._streams.progress(run_id, annotator, lambda: self._auth.who(request) == annotator)
        return EventSourceResponse(told, ping=HEARTBEAT_S, ping_message_factory=heartbeat, send_timeout=_SEND_TIMEOUT_S)

    async def login(self, request: Request) -> Response:
        if not self._auth.asks_for_token:
            return RedirectResponse("/", status_code=303)
        if self._auth.came_by_link(request) and request.query_params.get("wrong") is None:
            return self._auth.take_link(request)
        known = self._auth.who(request) is not None
        return page("login.html.j2", known=known, wrong_link=request.query_params.get("wrong") == "link")

    async def sign_in(self, request: Request) -> Response:
        check_own_page(request)
        body = await object_of(request)
        name = text_of(body, "name")
        response = self._auth.sign_in(request, text_of(body, "token"), name)
        where_taking_part([each for each in self._projections.runs.going() if each.for_people], name)
        return response

    async def sign_out(self, request: Request) -> Response:
        check_own_page(request)
        return await self._auth.sign_out(request)

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")


def version_of(run: Run) -> str:
    """Return what tells a run from another one of its name in another store: its spec, and the content of its dataset.

    Pages keep answers under it, so that none is ever sent for a sample that was not seen.
    """
    return sha256(run.run_log.started.SerializeToString(deterministic=True)).hexdigest()[:16]


def _listed_of_ended(ended: EndedRun) -> ListedRun:
    return ended.listed


def _row(run: ListedRun, backlog: pb.Backlog) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "description": run.pool.description if run.pool else "",
        "tool": run.spec.queue.tool,
        "over": run.over,
        "open": backlog.open,
        "leased": backlog.leased,
        "labels": run.labels,
        "budget": run.spec.label_budget,
        "accuracy": run.accuracy,
    }


def _json(
    message: pb.LeaseNextResponse | pb.SubmitResultsResponse | pb.ReleaseLeasesResponse, **more: bool
) -> Response:
    told = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return JSONResponse({**told, **more})
