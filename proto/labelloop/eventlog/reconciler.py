"""Advance every run that has not ended, each in a task of its own.

With several replicas, each run has one owner that does its work; see :class:`~labelloop.domain.run_owners.RunOwners`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from labelloop.domain.run_owners import RunOwners
from labelloop.errors import LabelloopError
from labelloop.eventlog.projections import Run, RunProjections
from labelloop.observability import tracing
from labelloop.runtime.backoff import Backoff
from labelloop.runtime.cancellation import without_losing_cancellation
from labelloop.runtime.waiting import tell_waits_to


class Reconcilable(Run, Protocol):
    """A run that has rounds."""

    @property
    def round(self) -> int: ...


R = TypeVar("R", bound=Reconcilable)
Advance = Callable[[str], Awaitable[None]]

_BACKOFF = Backoff(0.5, 15.0)

log = structlog.get_logger()


async def reconcile(projections: RunProjections[R], advance: Advance, owners: RunOwners) -> None:
    """Call ``advance`` for each run at each of its changes until it ends, forever.

    ``advance`` must be idempotent, and do no costly work on runs that ``owners`` leaves to other replicas. A run that
    fails here is left to another replica for a while.
    """
    async with asyncio.TaskGroup() as tasks:
        begun: set[str] = set()
        with projections.subscribe() as subscribe:
            while True:
                for run_id in projections.runs.keys() - begun:
                    begun.add(run_id)
                    if not projections.runs.is_going(run_id):
                        continue
                    tasks.create_task(_drive_run(projections, advance, owners, run_id))
                await subscribe.wait()
                subscribe.clear()


async def _drive_run(projections: RunProjections[R], advance: Advance, owners: RunOwners, run_id: str) -> None:
    """Advance one run at each of its changes until it ends; report errors and retry later."""
    state, tries = projections.get(run_id), 0
    bind_contextvars(run=run_id)  # in this task only, as what follows
    tell_waits_to(partial(projections.set_problem, run_id))
    with projections.subscribe(run_id) as subscribe:
        while not state.over and projections.runs.get(run_id) is state:  # not archived meanwhile
            subscribe.clear()
            try:
                await without_losing_cancellation(_advance(projections, advance, run_id))
            except Exception as error:
                with bound_contextvars(round=state.round):
                    _say(projections, run_id, error)
                owners.hold_up(run_id, projections.problems.get(run_id, ""))
                tries += 1
                await asyncio.sleep(_BACKOFF.pause_s(tries))
                continue
            if owners.mine(run_id):
                owners.go_on(run_id)
            projections.set_problem(run_id, owners.problem(run_id))
            tries = 0
            if not state.over:
                await subscribe.wait()


async def _advance(projections: RunProjections[R], advance: Advance, run_id: str) -> None:
    state = projections.get(run_id)
    with (
        bound_contextvars(round=state.round),
        tracing.span("advance", projections.carriers.get(run_id, {}), run=run_id, round=state.round),
    ):
        await advance(run_id)


def _say(projections: RunProjections[R], run_id: str, error: Exception) -> None:
    if isinstance(error, LabelloopError):
        log.error("run_held_up", run=run_id, reason=error.reason, problem=error.message)
        projections.set_problem(run_id, error.message)
    else:
        log.exception("run_held_up_by_bug", run=run_id)
        projections.set_problem(run_id, f"a fault of ours, see the log: {type(error).__name__}: {error}")
