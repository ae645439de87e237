"""Read the validated log of a run: the base of each service's state of it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from labelloop.domain.run_end import Ended
from labelloop.domain.run_log import RunLog
from labelloop.domain.sample_outcomes import SampleOutcomes
from labelloop.events.v1.events_pb2 import PoolPublished, RunSpec


@dataclass
class RunView:
    """Gives access to what the services' states have in common, which is kept in the ``RunLog`` alone."""

    run_log: RunLog

    @property
    def spec(self) -> RunSpec:
        return self.run_log.started.spec

    @property
    def pool(self) -> PoolPublished | None:
        return self.run_log.pool

    @property
    def round(self) -> int:
        """Round of the newest model; 0 before the first."""
        return self.run_log.round

    @property
    def answers(self) -> SampleOutcomes:
        return self.run_log.answers

    @property
    def ended(self) -> Ended | None:
        return self.run_log.ended

    @property
    def over(self) -> bool:
        return self.run_log.over

    @property
    def model_sha256(self) -> str:
        """Digest of the newest model, or of the inherited one; empty if there is none."""
        return self.run_log.model_sha256
