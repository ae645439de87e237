"""Run the oracle service: ``python -m oracle_svc``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labelloop.artifacts.store import open_store
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile
from labelloop.observability.metrics import watch
from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop.rpc.server import Server
from labelloop.runtime.process import run_service
from labelloop.settings import read_settings

from oracle_svc.config import OracleSettings
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.integrations.base import Called
from oracle_svc.integrations.dispatcher import IntegrationDispatcher
from oracle_svc.integrations.registry import check_called, connected
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.leases import Leases
from oracle_svc.metrics import dead_letter_gauges
from oracle_svc.request_dispenser import RequestDispenser
from oracle_svc.result_recorder import ResultRecorder
from oracle_svc.run_controller import RunController, watch_deadlines
from oracle_svc.samples.requests import AskedSamples, Samples
from oracle_svc.service import OracleService
from oracle_svc.tool_results import ToolResultSink
from oracle_svc.web.app import make_app
from oracle_svc.web.sample_endpoint import sample_route
from oracle_svc.web.server import WebServer
from oracle_svc.web.settings import from_environment as web_settings


async def serve(settings: OracleSettings) -> None:
    """Run the oracle until it is stopped: event log, integrations, gRPC service and labelling page."""
    server = Server(settings, "labelloop.oracle.v1.OracleService")
    await server.live()
    client = await connect_service(settings, "oracle")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    dataset_cache = DatasetCache(settings.data_dir, settings.cache_dir, settings.pools_dir)
    leases, dead_letters = Leases(client), DeadLetters(client)
    await leases.ensure_stream(settings.replicas)
    await dead_letters.ensure_stream(settings.replicas)
    projections = RunProjections(LabelingState.begin)
    queues, web = connected(client, settings.replicas, projections), web_settings()
    links = web.links if web else None
    samples = Samples(dataset_cache, links, settings.inline_bytes_max)
    counter, recorder = RequestDispenser(leases, samples), ResultRecorder(projections, log)
    check_called(queues, has_port=web is not None)

    def result_sink(tool: str) -> ToolResultSink:
        return ToolResultSink(tool, recorder, dead_letters, RequestRetries(tool, projections, leases))

    dispatchers = [
        IntegrationDispatcher(queue, result_sink(queue.name), projections, log, leases, counter, settings.resend_s)
        for queue in queues
    ]
    tools = [dispatcher.tool for dispatcher in dispatchers]
    watch(dead_letters, lambda letters: dead_letter_gauges(letters, tools))
    service = OracleService(projections, log, dataset_cache, recorder, counter, dead_letters, tools)
    add_OracleServiceServicer_to_server(service, server.grpc)
    page = None
    if web:
        routes = [route for queue in queues if isinstance(queue, Called) for route in queue.routes()]
        if links:
            routes.append(sample_route(links, AskedSamples(projections, samples).picture))
        page = WebServer(make_app(service, projections, web, routes), web)
    try:
        async with asyncio.TaskGroup() as tasks:
            for following in (projections.follow(log), log.watch(), leases.follow(), dead_letters.follow()):
                tasks.create_task(following)
            await projections.wait_for(await log.last_sequence())
            work = tasks.create_task(
                _work(projections, RunController(projections, log, dataset_cache, artifacts), dispatchers)
            )
            await server.start()
            if page:
                await page.start()
            await server.ready(**{"http_port": page.port} if page else {})
            await server.serve(work)
    finally:
        if page:
            await page.stop()
        await server.stop()
        await client.close()


async def _work(
    projections: RunProjections[LabelingState], requests: RunController, dispatchers: Sequence[IntegrationDispatcher]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reconcile(projections, requests.advance))
        tasks.create_task(watch_deadlines(projections))
        for dispatcher in dispatchers:
            tasks.create_task(dispatcher.run())


if __name__ == "__main__":
    run_service("oracle", read_settings(OracleSettings), serve)
