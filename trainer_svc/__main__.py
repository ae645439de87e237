"""Run the trainer as a process: ``python -m trainer_svc``."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from labelloop.artifacts.store import open_store
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop.rpc.server import CHANNEL_OPTIONS, Server
from labelloop.rpc.tls import channel
from labelloop.runtime.process import run_service
from labelloop.settings import read_settings
from labelloop.trainer.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server

from trainer_svc.config import TrainerSettings
from trainer_svc.domain.run_state import RunState
from trainer_svc.model.adam_softmax import settle_arithmetic
from trainer_svc.run_controller import RunController
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.service import TrainerService


async def serve(settings: TrainerSettings) -> None:
    server = Server(settings, "labelloop.trainer.v1.TrainerService")
    await server.live()
    client = await connect_service(settings, "trainer")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    scorers = ScorerChannels(settings.scorer, settings.tls_dir)
    scorer_client = ScorerClient(scorers, artifacts)
    executor = ThreadPoolExecutor(settings.fit_threads, "fit", initializer=settle_arithmetic)
    settle_arithmetic()
    projections = RunProjections(RunState.begin)
    async with channel(settings.oracle, settings.tls_dir, CHANNEL_OPTIONS) as oracle_channel:
        service = TrainerService(projections, log, artifacts, OracleServiceStub(oracle_channel))
        add_TrainerServiceServicer_to_server(service, server.grpc)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(projections.follow(log))
                tasks.create_task(log.watch())
                tasks.create_task(scorers.follow())
                await projections.wait_for(await log.last_sequence())
                work = tasks.create_task(
                    reconcile(projections, RunController(projections, log, scorer_client, artifacts, executor).advance)
                )
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
