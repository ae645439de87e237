"""Run the trainer as a process: ``python -m trainer_svc``."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from labelloop.artifacts.leftovers import Leftovers
from labelloop.artifacts.opening import open_store, wait_until_usable
from labelloop.artifacts.store import JETSTREAM
from labelloop.domain.run_owners import RunOwners
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.hold_up_reports import HoldUpReports
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.presence import Presence
from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceStub
from labelloop.rpc.server import CHANNEL_OPTIONS, OUTLIVE_A_DEAD_PEER, Server
from labelloop.rpc.tls import channel
from labelloop.runtime.process import run_service
from labelloop.settings import read_settings
from labelloop.trainer.v1.trainer_pb2_grpc import add_TrainerServiceServicer_to_server

from trainer_svc.bootstrap import Trainer
from trainer_svc.call_bounds import CALL_BOUNDS
from trainer_svc.config import TrainerSettings
from trainer_svc.model.adam_softmax import settle_arithmetic
from trainer_svc.scorers.channels import ScorerChannels
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.status import SERVICE


async def serve(settings: TrainerSettings) -> None:
    server = Server(settings, "labelloop.trainer.v1.TrainerService", bounds=CALL_BOUNDS)
    await server.live()
    client = await connect_service(settings, "trainer")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    await wait_until_usable(artifacts, writing=True)
    scorers = ScorerChannels(settings.scorer, settings.tls_dir)
    executor = ThreadPoolExecutor(settings.fit_threads, "fit", initializer=settle_arithmetic)
    settle_arithmetic()
    async with channel(settings.oracle, settings.tls_dir, [*CHANNEL_OPTIONS, *OUTLIVE_A_DEAD_PEER]) as oracle_channel:
        oracle = OracleServiceStub(oracle_channel)
        leftovers = Leftovers(client) if settings.artifacts_url == JETSTREAM else None
        scorer_client, owners = ScorerClient(scorers, artifacts), RunOwners(uuid4().hex)
        trainer = Trainer(
            log,
            artifacts,
            scorer_client,
            oracle,
            executor,
            owners=owners,
            leftovers=leftovers,
            import_limits=settings.import_limits,
        )
        presence = Presence(client, "trainer", owners, trainer.projections, log)
        reports = HoldUpReports(
            client, SERVICE, owners.replica, trainer.hold_ups, trainer.projections.hold_ups, trainer.projections
        )
        server.diagnostics.about(client, trainer.projections)
        add_TrainerServiceServicer_to_server(trainer.service, server.grpc)
        try:
            await _run(trainer, server, scorers, presence, reports, trainer.snapshots(settings.cache_dir / "snapshots"))
        finally:
            await server.stop()
            await scorers.close()
            executor.shutdown(wait=False, cancel_futures=True)
            await client.close()


async def _run(
    trainer: Trainer,
    server: Server,
    scorers: ScorerChannels,
    presence: Presence,
    reports: HoldUpReports,
    snapshots: LogSnapshots,
) -> None:
    await snapshots.restore()
    async with asyncio.TaskGroup() as tasks:
        following = (*trainer.following(), scorers.follow(), trainer.pool_progress.follow(), presence.listen())
        for each in (*following, reports.exchange()):
            tasks.create_task(each)
        tasks.create_task(snapshots.keep())  # while the log is read too: the next start goes on from there
        await trainer.caught_up()
        work = tasks.create_task(presence.while_present(trainer.advance_runs()))
        await server.start()
        await server.ready()
        await server.serve(work)


if __name__ == "__main__":
    run_service("trainer", read_settings(TrainerSettings), serve)
