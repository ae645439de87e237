"""Define the Prometheus metrics that only the trainer exposes."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from labelloop.eventlog.projections import RunProjections
from labelloop.observability.metrics import OURS, gauge, held_up, held_up_seconds
from labelloop.trainer.v1.trainer_pb2 import Phase
from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from trainer_svc.domain.run_state import RunState
from trainer_svc.status import SERVICE, phase_of

ROUNDS = Counter("labelloop_rounds_total", "Rounds that ended in a model which this process recorded.", registry=OURS)
AUTO_LABELS = Counter(
    "labelloop_auto_labels_total", "Labels that a model gave and this process recorded.", registry=OURS
)
FIT_SECONDS = Histogram(
    "labelloop_fit_seconds",
    "What a fit took, without reporting and export.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
    registry=OURS,
)
_PHASES = {number: name.removeprefix("PHASE_").lower() for name, number in Phase.items() if number}


def run_gauges(projections: RunProjections[RunState]) -> Iterator[Metric]:
    """Yield the number of runs by phase, the round of each unfinished run, and the runs that are held up."""
    phases = Tally(_PHASES[phase] for phase in projections.runs.each(phase_of, lambda status: status.phase))
    counts = {name: float(phases[name]) for name in _PHASES.values()}
    yield gauge("labelloop_runs", "Runs that there are, by what they are doing.", "phase", counts)
    rounds = {run.run_id: float(run.round) for run in projections.runs.going()}
    yield gauge("labelloop_run_round", "The newest model's round, of each run that goes on.", "run", rounds)
    yield held_up(projections.held_up())
    yield held_up_seconds(projections.own_hold_ups(SERVICE))
