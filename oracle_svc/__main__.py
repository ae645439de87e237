"""The oracle as a process: ``python -m oracle_svc``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop.wire.artifacts import open_store
from labelloop.wire.broker import connect_service
from labelloop.wire.driving import drive
from labelloop.wire.eventlog import EventLog
from labelloop.wire.metrics import watch
from labelloop.wire.process import run_service
from labelloop.wire.run_book import RunBook
from labelloop.wire.serving import Server
from labelloop.wire.settings import read_settings

from oracle_svc.asking_again import AskingAgain
from oracle_svc.clerk import Clerk
from oracle_svc.config import OracleSettings
from oracle_svc.counter import Counter
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.desk import Desk
from oracle_svc.intake import ToolIntake
from oracle_svc.leases import Leases
from oracle_svc.metrics import dead_letter_gauges
from oracle_svc.pump import Pump
from oracle_svc.queues.queue import Called
from oracle_svc.requests import Requests, watch_deadlines
from oracle_svc.samples import AskedSamples, Samples
from oracle_svc.service import OracleService
from oracle_svc.shelf import Shelf
from oracle_svc.tools import check_called, connected
from oracle_svc.web.app import make_app
from oracle_svc.web.server import WebServer
from oracle_svc.web.settings import from_environment as web_settings
from oracle_svc.web.showing import sample_route


async def serve(settings: OracleSettings) -> None:
    server = Server(settings, "labelloop.oracle.v1.OracleService")
    await server.live()
    client = await connect_service(settings, "oracle")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    shelf = Shelf(settings.data_dir, settings.cache_dir, settings.pools_dir)
    leases, dead_letters = Leases(client), DeadLetters(client)
    await leases.ensure_stream(settings.replicas)
    await dead_letters.ensure_stream(settings.replicas)
    book = RunBook(Desk.begin)
    queues, web = connected(client, settings.replicas, book), web_settings()
    links = web.links if web else None
    samples = Samples(shelf, links, settings.inline_bytes_max)
    counter, clerk = Counter(leases, samples), Clerk(book, log)
    check_called(queues, has_port=web is not None)

    def intake(tool: str) -> ToolIntake:
        return ToolIntake(tool, clerk, dead_letters, AskingAgain(tool, book, leases))

    pumps = [Pump(queue, intake(queue.name), book, log, leases, counter, settings.resend_s) for queue in queues]
    tools = [pump.tool for pump in pumps]
    watch(dead_letters, lambda letters: dead_letter_gauges(letters, tools))
    service = OracleService(book, log, shelf, clerk, counter, dead_letters, tools)
    add_OracleServiceServicer_to_server(service, server.grpc)
    page = None
    if web:
        routes = [route for queue in queues if isinstance(queue, Called) for route in queue.routes()]
        if links:
            routes.append(sample_route(links, AskedSamples(book, samples).picture))
        page = WebServer(make_app(service, book, web, routes), web)
    try:
        async with asyncio.TaskGroup() as tasks:
            for following in (book.follow(log), log.watch(), leases.follow(), dead_letters.follow()):
                tasks.create_task(following)
            await book.reach(await log.last_sequence())
            work = tasks.create_task(_work(book, Requests(book, log, shelf, artifacts), pumps))
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


async def _work(book: RunBook[Desk], requests: Requests, pumps: Sequence[Pump]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(drive(book, requests.advance))
        tasks.create_task(watch_deadlines(book))
        for pump in pumps:
            tasks.create_task(pump.run())


if __name__ == "__main__":
    run_service("oracle", read_settings(OracleSettings), serve)
