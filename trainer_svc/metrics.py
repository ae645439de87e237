"""What the trainer shows beside what every service does."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from labelloop.trainer.v1.trainer_pb2 import Phase
from labelloop.wire.metrics import OURS, gauge, held_up
from labelloop.wire.run_book import RunBook
from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from trainer_svc.run_state import RunState
from trainer_svc.status import phase_of

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


def run_gauges(book: RunBook[RunState]) -> Iterator[Metric]:
    """Runs by phase, and the round of each that goes on."""
    runs = list(book.runs.values())
    phases = Tally(_PHASES[phase_of(run)] for run in runs)
    counts = {name: float(phases[name]) for name in _PHASES.values()}
    yield gauge("labelloop_runs", "Runs that there are, by what they are doing.", "phase", counts)
    rounds = {run.run_id: float(run.round) for run in runs if not run.over}
    yield gauge("labelloop_run_round", "The newest model's round, of each run that goes on.", "run", rounds)
    yield held_up(book.held_up())
