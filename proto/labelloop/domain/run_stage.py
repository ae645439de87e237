"""Say what is done for a run before samples are asked for. No I/O."""

from __future__ import annotations

from labelloop.domain.limits import LEARNED
from labelloop.domain.run_log import RunLog


def beginning_of(run_log: RunLog) -> str:
    """Return what is done before the first samples are asked for; empty from then on, and once the run has ended."""
    if run_log.over or run_log.parts or run_log.round:
        return ""
    if run_log.pool is None:
        return "the pool is being read and stored"
    if run_log.started.spec.features in LEARNED and run_log.features is None:
        return "features are being learned from the pool"
    return "the first samples are being chosen"


def stage_of(run_log: RunLog) -> str:
    """Return what is done before the next samples are asked for; empty while some are, and once the run has ended."""
    if run_log.over or run_log.open:
        return ""
    return beginning_of(run_log) or (
        "a model is being trained" if run_log.news else "the next samples are being chosen"
    )
