"""Run the oracle service: ``python -m oracle_svc``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing

from labelloop.artifacts.opening import wait_until_usable
from labelloop.domain.hold_ups import HoldUp
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.hold_up_reports import HoldUpReports
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.presence import Presence
from labelloop.observability.metrics import watch
from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop.rpc.server import Server
from labelloop.runtime.process import run_service

from oracle_svc.bootstrap import Oracle, oracle_of
from oracle_svc.call_bounds import CALL_BOUNDS
from oracle_svc.config import OracleSettings
from oracle_svc.domain.tool_states import SERVICE
from oracle_svc.integrations.base import Integration
from oracle_svc.integrations.registry import check_called, connected
from oracle_svc.metrics import dead_letter_gauges, tool_gauges
from oracle_svc.service import OracleService
from oracle_svc.settings_check import checked_settings
from oracle_svc.web.app import make_app
from oracle_svc.web.ended_sessions import SharedEndedSessions
from oracle_svc.web.server import WebServer
from oracle_svc.web.settings import WebSettings
from oracle_svc.web.settings import from_environment as web_settings


async def serve(settings: OracleSettings) -> None:
    """Run the oracle until it is stopped: event log, integrations, gRPC service and labelling page."""
    server = Server(settings, "labelloop.oracle.v1.OracleService", bounds=CALL_BOUNDS)
    await server.live()
    client = await connect_service(settings, "oracle")
    web = web_settings()
    oracle = oracle_of(settings, client, web.links if web else None)
    await oracle.ensure_streams(settings.replicas)
    await wait_until_usable(oracle.artifacts, writing=True)
    tools = connected(client, settings.replicas, oracle.projections, oracle.leases)
    check_called(tools, has_port=web is not None)
    names = [tool.name for tool in tools]
    watch(oracle.tool_states, lambda states: tool_gauges(states, names))
    watch(oracle.dead_letters, lambda letters: dead_letter_gauges(letters, names))
    service = oracle.service(names)
    server.diagnostics.about(client, oracle.projections, [settings.cache_dir], oracle.tool_states.away)
    add_OracleServiceServicer_to_server(service, server.grpc)
    async with AsyncExitStack() as exits:  # in reverse: the page is stopped first
        exits.push_async_callback(client.close)
        for tool in tools:
            await exits.enter_async_context(aclosing(tool))
        exits.push_async_callback(server.stop)
        ended = SharedEndedSessions(client)
        page = _page(oracle, service, web, tools, ended)
        if page:
            exits.push_async_callback(page.stop)
        presence = Presence(client, "oracle", oracle.owners, oracle.projections, oracle.log)
        runs = oracle.projections
        reports = HoldUpReports(client, SERVICE, oracle.owners.replica, oracle.hold_ups, runs.hold_ups, runs)
        snapshots = oracle.snapshots(settings.cache_dir / "snapshots")
        await _run(oracle, server, page, tools, presence, reports, ended, snapshots)


def _page(
    oracle: Oracle,
    service: OracleService,
    web: WebSettings | None,
    tools: Sequence[Integration],
    ended: SharedEndedSessions,
) -> WebServer | None:
    if web is None:
        return None

    def held_up(run_id: str) -> list[HoldUp]:
        return service.held_up_by(oracle.projections.get(run_id))

    app = make_app(service, oracle.projections, web, oracle.routes(tools), ended=ended, held_up=held_up)
    return WebServer(app, web)


async def _run(
    oracle: Oracle,
    server: Server,
    page: WebServer | None,
    tools: Sequence[Integration],
    presence: Presence,
    reports: HoldUpReports,
    ended: SharedEndedSessions,
    snapshots: LogSnapshots,
) -> None:
    await snapshots.restore()
    async with asyncio.TaskGroup() as tasks:
        for following in (*oracle.following(), presence.listen(), ended.follow(), reports.exchange()):
            tasks.create_task(following)
        tasks.create_task(snapshots.keep())  # while the log is read too: the next start goes on from there
        await oracle.caught_up()
        await ended.caught_up()
        work = tasks.create_task(presence.while_present(oracle.work(tools)))
        await server.start()
        if page:
            await page.start()
        await server.ready(**{"http_port": page.port} if page else {})
        await server.serve(work)


if __name__ == "__main__":
    run_service("oracle", checked_settings(), serve)
