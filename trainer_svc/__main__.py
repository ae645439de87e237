"""The trainer as a process: ``python -m trainer_svc``."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop.trainer.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server
from labelloop.wire.artifacts import open_store
from labelloop.wire.broker import connect_service
from labelloop.wire.driving import drive
from labelloop.wire.eventlog import EventLog
from labelloop.wire.process import run_service
from labelloop.wire.run_book import RunBook
from labelloop.wire.serving import CHANNEL_OPTIONS, Server
from labelloop.wire.settings import read_settings
from labelloop.wire.tls import channel

from trainer_svc.config import TrainerSettings
from trainer_svc.ranker import Ranker
from trainer_svc.replicas import Replicas
from trainer_svc.rounds import Rounds
from trainer_svc.run_state import RunState
from trainer_svc.service import TrainerService
from trainer_svc.softmax import settle_arithmetic


async def serve(settings: TrainerSettings) -> None:
    server = Server(settings, "labelloop.trainer.v1.TrainerService")
    await server.live()
    client = await connect_service(settings, "trainer")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    scorers = Replicas(settings.scorer, settings.tls_dir)
    ranker = Ranker(scorers, artifacts)
    executor = ThreadPoolExecutor(settings.fit_threads, "fit", initializer=settle_arithmetic)
    settle_arithmetic()
    book = RunBook(RunState.begin)
    async with channel(settings.oracle, settings.tls_dir, CHANNEL_OPTIONS) as oracle_channel:
        service = TrainerService(book, log, artifacts, OracleServiceStub(oracle_channel))
        add_TrainerServiceServicer_to_server(service, server.grpc)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(book.follow(log))
                tasks.create_task(log.watch())
                tasks.create_task(scorers.follow())
                await book.reach(await log.last_sequence())
                work = tasks.create_task(drive(book, Rounds(book, log, ranker, artifacts, executor).advance))
                await server.start()
                await server.ready()
                await server.serve(work)
        finally:
            await server.stop()
            await scorers.close()
            executor.shutdown(wait=False, cancel_futures=True)
            await client.close()


if __name__ == "__main__":
    run_service("trainer", read_settings(TrainerSettings), serve)
