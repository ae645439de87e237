"""The oracle as a process: ``python -m oracle_svc``."""

from __future__ import annotations

import asyncio

from labelloop.oracle.v1.oracle_pb2_grpc import add_OracleServiceServicer_to_server
from labelloop.wire.artifacts import open_store
from labelloop.wire.broker import connect_service
from labelloop.wire.driving import drive
from labelloop.wire.eventlog import EventLog
from labelloop.wire.process import run_service
from labelloop.wire.run_book import RunBook
from labelloop.wire.serving import Server
from labelloop.wire.settings import read_settings

from oracle_svc.config import OracleSettings
from oracle_svc.desk import Desk
from oracle_svc.requests import Requests
from oracle_svc.service import OracleService
from oracle_svc.shelf import Shelf


async def serve(settings: OracleSettings) -> None:
    server = Server(settings, "labelloop.oracle.v1.OracleService")
    await server.live()
    client = await connect_service(settings, "oracle")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    shelf = Shelf(settings.data_dir, settings.cache_dir)
    book = RunBook(Desk.begin)
    add_OracleServiceServicer_to_server(OracleService(book, log, shelf), server.grpc)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(book.follow(log))
            tasks.create_task(log.watch())
            await book.reach(await log.last_sequence())
            work = tasks.create_task(drive(book, Requests(book, log, shelf, artifacts).advance))
            await server.start()
            await server.ready()
            await server.serve(work)
    finally:
        await server.stop()
        await client.close()


if __name__ == "__main__":
    run_service("oracle", read_settings(OracleSettings), serve)
