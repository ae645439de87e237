"""Run the trainer as a process: ``python -m trainer_svc``."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from labelloop.artifacts.leftovers import Leftovers
from labelloop.artifacts.store import JETSTREAM, open_store
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.log import EventLog
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop.rpc.server import CHANNEL_OPTIONS, Server
from labelloop.rpc.tls import channel
from labelloop.runtime.process import run_service
from labelloop.settings import read_settings
from labelloop.trainer.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server

from trainer_svc.bootstrap import Trainer
from trainer_svc.config import TrainerSettings
from trainer_svc.model.adam_softmax import settle_arithmetic
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient


async def serve(settings: TrainerSettings) -> None:
    server = Server(settings, "labelloop.trainer.v1.TrainerService")
    await server.live()
    client = await connect_service(settings, "trainer")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    scorers = ScorerChannels(settings.scorer, settings.tls_dir)
    executor = ThreadPoolExecutor(settings.fit_threads, "fit", initializer=settle_arithmetic)
    settle_arithmetic()
    async with channel(settings.oracle, settings.tls_dir, CHANNEL_OPTIONS) as oracle_channel:
        oracle = OracleServiceStub(oracle_channel)
        leftovers = Leftovers(client) if settings.artifacts_url == JETSTREAM else None
        scorer_client = ScorerClient(scorers, artifacts)
        trainer = Trainer(log, artifacts, scorer_client, oracle, executor, leftovers=leftovers)
        server.diagnostics.about(client, trainer.projections)
        add_TrainerServiceServicer_to_server(trainer.service, server.grpc)
        try:
            await _run(trainer, server, scorers)
        finally:
            await server.stop()
            await scorers.close()
            executor.shutdown(wait=False, cancel_futures=True)
            await client.close()


async def _run(trainer: Trainer, server: Server, scorers: ScorerChannels) -> None:
    async with asyncio.TaskGroup() as tasks:
        for following in (*trainer.following(), scorers.follow(), trainer.pool_progress.follow()):
            tasks.create_task(following)
        await trainer.caught_up()
        work = tasks.create_task(trainer.advance_runs())
        await server.start()
        await server.ready()
        await server.serve(work)


if __name__ == "__main__":
    run_service("trainer", read_settings(TrainerSettings), serve)
