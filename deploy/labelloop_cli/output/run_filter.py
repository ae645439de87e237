"""Choose and sort the runs of a list. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labelloop.trainer.v1.trainer_pb2 import RunStatus

from labelloop_cli.choices import SortKey
from labelloop_cli.output import run_summary

_KEYS: dict[SortKey, Callable[[RunStatus], Any]] = {
    SortKey.started: lambda run: (run.started_at.seconds, run.started_at.nanos),
    SortKey.changed: lambda run: (run.changed_at.seconds, run.changed_at.nanos),
    SortKey.name: lambda run: run.run_id,
    SortKey.labels: lambda run: run.labels_paid,
    SortKey.accuracy: lambda run: _accuracy(run),
}


def chosen_runs(
    runs: Sequence[RunStatus], states: Sequence[str], search: str, sort: SortKey | None, last: int
) -> list[RunStatus]:
    """Return the runs of a list that were asked for.

    Args:
        runs: All runs, oldest first.
        states: Words for states, as lists show them; none for all.
        search: Text that the run's id or its dataset holds, in any case.
        sort: Sort by this, ascending; None: as they are.
        last: Only so many, from the end; 0: all.
    """
    wanted, text = set(states), search.casefold()
    found = [
        run
        for run in runs
        if (not wanted or run_summary.state(run) in wanted)
        and (text in run.run_id.casefold() or text in run.spec.dataset.name.casefold())
    ]
    if sort:
        found.sort(key=_KEYS[sort])
    return found[-last:] if last else found


def _accuracy(run: RunStatus) -> float:
    estimate = run_summary.estimate_of(run.latest, run.spec.protocol, run.pool.classes)
    if estimate is None:
        return -1.0
    share = estimate.share
    return share.low if share.value is None else share.value
