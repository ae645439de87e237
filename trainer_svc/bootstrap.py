"""Assemble a trainer from its parts: the service and the simulation of runs both do so here."""

from __future__ import annotations

from collections.abc import Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelloop.artifacts.leftovers import Leftovers
from labelloop.artifacts.store import ArtifactStore
from labelloop.domain.hold_ups import HoldUp
from labelloop.domain.run_owners import RunOwners
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.reconciler import reconcile

from trainer_svc.domain.run_state import RunState
from trainer_svc.imports.limits import ImportLimits
from trainer_svc.pool_progress import PoolProgress
from trainer_svc.run_controller import RunController
from trainer_svc.scorers.client import ScorerClient
from trainer_svc.service import TrainerService
from trainer_svc.status import SERVICE, STATUSES, status_of

if TYPE_CHECKING:
    from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceAsyncStub


@dataclass(frozen=True, eq=False)
class Trainer:
    """One trainer: the parts that it is given, and on first use those that it makes of them.

    Attributes:
        log: The event log.
        artifacts: Where models are stored.
        scorer_client: Ranks pools and reads samples.
        oracle: Describes datasets.
        executor: Runs fits; its threads must have called ``settle_arithmetic``.
        projections: The state of each run, folded from the log.
        owners: Which trainer advances which run; by default there is no other.
        leftovers: What broken uploads left on the broker; None if artifacts are kept elsewhere.
        import_limits: How much an import may send.
    """

    log: EventLog
    artifacts: ArtifactStore
    scorer_client: ScorerClient
    oracle: OracleServiceAsyncStub
    executor: Executor
    projections: RunProjections[RunState] = field(default_factory=lambda: RunProjections(RunState.begin, status_of))
    owners: RunOwners = field(default_factory=RunOwners)
    leftovers: Leftovers | None = None
    import_limits: ImportLimits = field(default_factory=ImportLimits)

    @cached_property
    def service(self) -> TrainerService:
        return TrainerService(
            self.projections, self.log, self.artifacts, self.oracle, self.leftovers, self.import_limits
        )

    @cached_property
    def run_controller(self) -> RunController:
        return RunController(
            self.projections,
            self.log,
            self.scorer_client,
            self.artifacts,
            self.executor,
            self.owners,
            self.pool_progress,
        )

    @cached_property
    def pool_progress(self) -> PoolProgress:
        return PoolProgress(self.projections, self.scorer_client)

    def snapshots(self, folder: Path) -> LogSnapshots:
        """Return the snapshots in ``folder`` of what this trainer reads of the log."""
        return LogSnapshots(folder, "trainer", self.log, self.projections, STATUSES)

    def hold_ups(self) -> list[HoldUp]:
        """Return the hold-ups of the runs that this trainer advances."""
        return [each for each in self.projections.own_hold_ups(SERVICE) if self.owners.mine(each.run_id)]

    def following(self) -> list[Coroutine[Any, Any, None]]:
        """Return the work that keeps this trainer up to date with the event log."""
        return [self.projections.follow(self.log), self.log.watch()]

    async def caught_up(self) -> None:
        """Return once every event that the log holds now is applied."""
        await self.projections.wait_for(await self.log.last_sequence())

    async def advance_runs(self) -> None:
        """Carry out the steps of each run, until cancelled."""
        await reconcile(self.projections, self.run_controller.advance, self.owners)
