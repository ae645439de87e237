"""Assemble an oracle from its parts: the service, the tests and the simulation of runs all do so here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

from labelloop.artifacts.artifact_cache import ArtifactCache
from labelloop.artifacts.opening import open_store
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.hold_ups import HoldUp
from labelloop.domain.remote_urls import parsed_prefixes
from labelloop.domain.run_owners import RunOwners
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile
from nats.aio.client import Client
from platformdirs import user_cache_path
from starlette.routing import Route

from oracle_svc.config import OracleSettings
from oracle_svc.dataset_queries import DatasetQueries
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.hidden_files import HiddenFiles
from oracle_svc.datasets.places import Places
from oracle_svc.dead_letters import DeadLetters
from oracle_svc.domain.backlog import faults_of_tool
from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.listed_run import ENDED_RUNS, ended_run
from oracle_svc.domain.tool_states import SERVICE, ToolStates
from oracle_svc.folder_cache import FolderCache
from oracle_svc.integrations.base import Called, Integration
from oracle_svc.integrations.dispatcher import PUSH_WITHIN_S, IntegrationDispatcher
from oracle_svc.integrations.request_retries import RequestRetries
from oracle_svc.leases import Leases
from oracle_svc.remote.cache import RemoteCache
from oracle_svc.remote.sources import Sources
from oracle_svc.request_dispenser import RequestDispenser
from oracle_svc.result_recorder import ResultRecorder
from oracle_svc.run_controller import RunController, watch_deadlines
from oracle_svc.samples.published_pools import PublishedPools
from oracle_svc.samples.requests import INLINE_BYTES_MAX, AskedSamples, Samples
from oracle_svc.samples.signed_urls import SignedUrls
from oracle_svc.service import OracleService
from oracle_svc.tool_results import ToolResultSink
from oracle_svc.uploads.cache import UploadCache
from oracle_svc.uploads.receiver import UploadReceiver
from oracle_svc.uploads.store import JetStreamUploads
from oracle_svc.web.sample_endpoint import guidelines_route, sample_route


@dataclass(frozen=True, eq=False)
class Oracle:
    """One oracle: the parts that it is given, and on first use those that it makes of them.

    Attributes:
        log: The event log.
        artifacts: Where pools are published.
        dataset_cache: Reads datasets.
        leases: Which requests annotators and tools hold.
        dead_letters: Results of tools that cannot be recorded.
        uploads: Receives files from clients; None if there is nowhere to keep them.
        links: Signs links to samples; None to send every sample inline.
        inline_bytes_max: Largest encoded sample to send inline, in bytes.
        samples_dir: Where parts of pools are cached, to show samples of them.
        samples_bytes_max: Bytes that may be cached there.
        projections: The state of each run, folded from the log.
        owners: Which oracle answers which run from its dataset; by default there is no other.
    """

    log: EventLog
    artifacts: ArtifactStore
    dataset_cache: DatasetCache
    leases: Leases
    dead_letters: DeadLetters
    uploads: UploadReceiver | None = None
    links: SignedUrls | None = None
    inline_bytes_max: int = INLINE_BYTES_MAX
    samples_dir: Path = field(default_factory=lambda: user_cache_path("labelloop") / "samples")
    samples_bytes_max: int = 1_000_000_000
    projections: RunProjections[LabelingState] = field(
        default_factory=lambda: RunProjections(LabelingState.begin, ended_run)
    )
    owners: RunOwners = field(default_factory=RunOwners)

    @cached_property
    def pools(self) -> PublishedPools:
        return PublishedPools(self.artifacts, ArtifactCache(self.artifacts, self.samples_dir, self.samples_bytes_max))

    @cached_property
    def samples(self) -> Samples:
        return Samples(self.pools, self.links, self.inline_bytes_max)

    @cached_property
    def dispenser(self) -> RequestDispenser:
        return RequestDispenser(self.leases, self.samples)

    @cached_property
    def recorder(self) -> ResultRecorder:
        return ResultRecorder(self.projections, self.log)

    @cached_property
    def run_controller(self) -> RunController:
        return RunController(self.projections, self.log, self.dataset_cache, self.artifacts, self.owners)

    @cached_property
    def tool_states(self) -> ToolStates:
        return ToolStates()

    def hold_ups(self) -> list[HoldUp]:
        """Return the hold-ups of the runs that this oracle advances, and of tools that it cannot reach."""
        own = (each for each in self.projections.own_hold_ups(SERVICE) if self.owners.mine(each.run_id))
        return [
            *self.tool_states.away(),
            *own,
            *chain.from_iterable(map(faults_of_tool, self.projections.runs.going())),
        ]

    def service(self, tools: Sequence[str] = ()) -> OracleService:
        """Build the gRPC service, which names the connected ``tools`` to clients."""
        return OracleService(
            self.projections,
            self.log,
            DatasetQueries(self.dataset_cache, self.pools, self.projections),
            self.recorder,
            self.dispenser,
            self.dead_letters,
            tools,
            self.uploads,
            self.tool_states,
        )

    def result_sink(self, tool: str) -> ToolResultSink:
        """Build the sink of a tool's results."""
        retries = RequestRetries(tool, self.projections, self.leases)
        return ToolResultSink(tool, self.recorder, self.dead_letters, retries, self.tool_states)

    def dispatcher(self, tool: Integration, push_within_s: float = PUSH_WITHIN_S) -> IntegrationDispatcher:
        """Build the dispatcher of requests to a tool, and of its results."""
        sink, state = self.result_sink(tool.name), (self.projections, self.log, self.leases, self.dispenser)
        return IntegrationDispatcher(tool, sink, *state, push_within_s, self.tool_states)

    def routes(self, tools: Iterable[Integration] = ()) -> list[Route]:
        """Build the routes beside the labelling page: those that ``tools`` call, and samples at their links."""
        routes = [route for tool in tools if isinstance(tool, Called) for route in tool.routes()]
        if self.links:
            asked = AskedSamples(self.projections, self.samples)
            routes.append(guidelines_route(self.links, asked.guidelines))
            routes.append(sample_route(self.links, asked.picture))
        return routes

    async def ensure_streams(self, replicas: int = 1) -> None:
        """Create the streams that do not exist yet."""
        for stream in (self.log, self.leases, self.dead_letters):
            await stream.ensure_stream(replicas)

    def snapshots(self, folder: Path) -> LogSnapshots:
        """Return the snapshots in ``folder`` of what this oracle reads of the log."""
        return LogSnapshots(folder, "oracle", self.log, self.projections, ENDED_RUNS)

    def following(self) -> list[Coroutine[Any, Any, None]]:
        """Return the work that keeps this oracle up to date with the streams."""
        return [self.projections.follow(self.log), self.log.watch(), self.leases.follow(), self.dead_letters.follow()]

    async def caught_up(self) -> None:
        """Return once every event that the log holds now is applied."""
        await self.projections.wait_for(await self.log.last_sequence())

    async def advance_runs(self) -> None:
        """Carry out what each run asks of an oracle, until cancelled."""
        await reconcile(self.projections, self.run_controller.advance, self.owners)

    async def work(self, tools: Iterable[Integration]) -> None:
        """Advance runs at their events and deadlines, and exchange requests and results with tools, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.advance_runs())
            tasks.create_task(watch_deadlines(self.projections))
            for tool in tools:
                tasks.create_task(self.dispatcher(tool).run())


def oracle_of(settings: OracleSettings, client: Client, links: SignedUrls | None) -> Oracle:
    """Assemble the oracle that ``settings`` describe, connected to the broker by ``client``."""
    upload_bytes_max = int(settings.upload_gb * 1e9)
    uploads = JetStreamUploads(client, upload_bytes_max, settings.replicas)
    cached = FolderCache(settings.cache_dir / "uploads", int(settings.uploads_cache_gb * 1e9))
    prefixes = parsed_prefixes(settings.remote_pools)
    return Oracle(
        log=EventLog(client),
        artifacts=open_store(settings.artifacts_url, client, settings.replicas),
        dataset_cache=DatasetCache(
            settings.data_dir,
            settings.cache_dir,
            Places(settings.pools_dir, HiddenFiles.of(settings.hidden_files)),
            UploadCache(uploads, cached),
            RemoteCache(cached, prefixes, Sources(prefixes)),
        ),
        leases=Leases(client, resend_s=settings.resend_s),
        dead_letters=DeadLetters(client),
        uploads=UploadReceiver(uploads, upload_bytes_max),
        links=links,
        inline_bytes_max=settings.inline_bytes_max,
        samples_dir=settings.cache_dir / "samples",
        samples_bytes_max=int(settings.samples_cache_gb * 1e9),
        owners=RunOwners(uuid4().hex),
    )
