"""One scorer: what it consists of, and its life from start to drain."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from labelloop.scorer.v1.scorer_pb2_grpc import add_ScorerServiceServicer_to_server
from labelloop.wire.artifacts import open_store
from labelloop.wire.broker import connect_service
from labelloop.wire.eventlog import EventLog
from labelloop.wire.serving import Server

from scorer_svc.artifact_cache import ArtifactCache
from scorer_svc.cache_folder import CacheFolder
from scorer_svc.config import ScorerSettings
from scorer_svc.feature_pool import feature_pools, graphs
from scorer_svc.learning import Learning
from scorer_svc.model import models
from scorer_svc.pool import pools
from scorer_svc.scoring import Scoring
from scorer_svc.screening import Screening
from scorer_svc.service import ScorerService
from scorer_svc.session import share_memory
from scorer_svc.threads import use_one_thread
from scorer_svc.warming import Newest


async def serve(settings: ScorerSettings, *, shared_port: bool = False) -> None:
    """Until it is cancelled. Several such processes may share a port, where each is told so."""
    server = Server(settings, "labelloop.scorer.v1.ScorerService", shared_port=shared_port)
    await server.live()
    client = await connect_service(settings, "scorer")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    share_memory()
    use_one_thread()  # of the cores, each ranking, extraction and session has its own
    room = (settings.cache_dir / "artifacts", int(settings.cache_gb * 1e9))  # of pools and their features together
    cache = ArtifactCache(artifacts, *room)
    screening = Screening()
    screening.announce()
    known_pools, known_models, known_graphs = pools(artifacts, cache), models(artifacts, screening), graphs(artifacts)
    executor, posted = ThreadPoolExecutor(settings.score_threads, "score"), ThreadPoolExecutor(1, "posted")
    cores = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "features")  # once a pool: on all that there are
    seen = feature_pools(known_pools, known_graphs, CacheFolder(*room), cores)
    newest = Newest(log, known_models)
    service = ScorerService(
        known_pools,
        seen,
        Learning(known_pools, known_graphs, cores),
        known_models,
        newest,
        Scoring(posted),
        executor,
        settings.score_threads,
    )
    add_ScorerServiceServicer_to_server(service, server.grpc)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(newest.follow())
            tasks.create_task(log.watch())
            await newest.catch_up()
            work = tasks.create_task(newest.warm())
            await server.start()
            await server.ready()
            await server.serve(work)
    finally:
        await server.stop()
        for each in (executor, posted, cores):
            each.shutdown(wait=False, cancel_futures=True)
        await client.close()
