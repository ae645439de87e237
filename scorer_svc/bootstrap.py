"""Assemble one scorer and run it from start-up to drain."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.cache_folder import CacheFolder
from labelloop.artifacts.opening import open_store, wait_until_usable
from labelloop.eventlog.connection import connect_service
from labelloop.eventlog.hold_up_reports import HoldUpReports
from labelloop.eventlog.log import EventLog
from labelloop.inference.v2.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from labelloop.rpc.server import SHORTCUT_PENDING_CALLS, Server
from labelloop.runtime.cores import usable_cores
from labelloop.scorer.v1.scorer_pb2_grpc import add_ScorerServiceServicer_to_server

from scorer_svc.call_bounds import CALL_BOUNDS
from scorer_svc.config import ScorerSettings
from scorer_svc.features.pool import feature_pools, graphs
from scorer_svc.features.service import FeatureService
from scorer_svc.inference.engine import Inference
from scorer_svc.inference.naming import ModelNames
from scorer_svc.inference.rest_server import RestServer
from scorer_svc.inference.service import InferenceService
from scorer_svc.models.model import models
from scorer_svc.models.ort_session import share_memory
from scorer_svc.models.warmup import SERVICE, ModelWarmup
from scorer_svc.numerics.blas_threads import use_one_thread
from scorer_svc.pools.pool import pools
from scorer_svc.pools.window import MappedWindow
from scorer_svc.prefilter.kernel_choice import PrefilterFactory
from scorer_svc.scoring.score import Scoring
from scorer_svc.service import ScorerService


async def serve(settings: ScorerSettings, *, shared_port: bool = False) -> None:
    """Run a scorer until it is cancelled.

    Several processes may share a port if each is started with ``shared_port``.
    """
    server = Server(
        settings,
        "labelloop.scorer.v1.ScorerService",
        shared_port=shared_port,
        bounds=CALL_BOUNDS,
        pending_calls=SHORTCUT_PENDING_CALLS,
    )
    await server.live()
    client = await connect_service(settings, "scorer")
    log = EventLog(client)
    await log.ensure_stream(settings.replicas)
    artifacts = open_store(settings.artifacts_url, client, settings.replicas)
    await wait_until_usable(artifacts, writing=False)
    share_memory()
    use_one_thread()  # rankings, extractions and sessions each have a core of their own
    room = (settings.cache_dir / "artifacts", int(settings.cache_gb * 1e9))  # one limit for pools and their features
    cache = ArtifactCache(artifacts, *room)
    prefilters = PrefilterFactory()
    prefilters.announce()
    window = MappedWindow(int((settings.mapped_gb or settings.cache_gb) * 1e9))
    vetting = ThreadPoolExecutor(1, "vetting")
    known_pools = pools(artifacts, cache, window)
    known_models = models(artifacts, prefilters, vetting, settings.graph_multiply_adds)
    known_graphs = graphs(artifacts, vetting, settings.graph_multiply_adds)
    executor, posted = ThreadPoolExecutor(settings.score_threads, "score"), ThreadPoolExecutor(1, "posted")
    clustering = ThreadPoolExecutor(1, "clustering")
    cores = ThreadPoolExecutor(usable_cores(), "features")  # used once per pool, so on all cores
    seen = feature_pools(known_pools, known_graphs, CacheFolder(*room), cores, window)
    newest = ModelWarmup(log, known_models)
    scoring, converting = Scoring(posted), ThreadPoolExecutor(1, "converting")
    service = ScorerService(
        known_pools,
        seen,
        FeatureService(known_pools, known_graphs, cores),
        known_models,
        newest,
        scoring,
        executor,
        settings.score_threads,
        cache,
        clustering,
    )
    server.diagnostics.about(client, folders=[settings.cache_dir])
    add_ScorerServiceServicer_to_server(service, server.with_shortcuts({"Score": service.score_at_once}))
    inference = Inference(ModelNames(newest), known_models, scoring, converting)
    asked = InferenceService(inference)
    add_GRPCInferenceServiceServicer_to_server(asked, server.with_shortcuts({"ModelInfer": asked.infer_at_once}))
    rest = RestServer(inference, settings, shared_port=shared_port)
    snapshots = newest.snapshots(settings.cache_dir / "snapshots")
    try:
        await snapshots.restore()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(newest.follow())
            tasks.create_task(log.watch())
            tasks.create_task(snapshots.keep())  # while the log is read too: the next start goes on from there
            await newest.catch_up()
            reports = HoldUpReports(client, SERVICE, uuid4().hex, newest.hold_ups)
            tasks.create_task(reports.exchange())
            work = tasks.create_task(newest.warm())
            await server.start()
            await rest.start()
            await server.ready(**({"rest_port": rest.port} if rest.port else {}))
            async with asyncio.TaskGroup() as serving:  # both stop at once, and both are waited for
                serving.create_task(server.serve(work))
                serving.create_task(rest.serve())
    finally:
        await asyncio.gather(server.stop(), rest.stop())
        for each in (executor, posted, converting, clustering, cores, vetting):
            each.shutdown(wait=False, cancel_futures=True)
        await client.close()
