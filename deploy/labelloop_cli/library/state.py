"""Describe where a run stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from labelloop.domain.accuracy_estimate import AccuracyEstimate
from labelloop.errors import WrongState
from labelloop.trainer.v1.trainer_pb2 import Phase, RunStatus

from labelloop_cli.output import hold_ups, run_summary

_ENDED = {Phase.PHASE_FINISHED, Phase.PHASE_CANCELLED, Phase.PHASE_FAILED}


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        run_id: Its id.
        phase: A word, for example ``labelling``, ``finished`` or ``failed``.
        ended: Whether it has ended.
        round: Models that it has so far.
        planned_rounds: Models that it will have if it goes as planned.
        labels_paid: Labels that were paid for.
        label_budget: Labels to pay for at most, besides those of an audit.
        labels_open: Labels that it waits for.
        auto_labels: Labels that the model gave.
        accuracy: What is known of the newest model's accuracy; None if nothing is. ``accuracy.text`` says it in words,
            ``accuracy.share`` has the value and its 95 % interval.
        message: Why it ended, or what keeps it waiting.
        progress: What a long step has done so far.
        held_up: What holds it up now, a sentence each.
        archived: Whether it is archived.
        started_at: When it was started.
        changed_at: When its newest event was recorded.
    """

    run_id: str
    phase: str
    ended: bool
    round: int
    planned_rounds: int
    labels_paid: int
    label_budget: int
    labels_open: int
    auto_labels: int
    accuracy: AccuracyEstimate | None
    message: str
    progress: str
    held_up: tuple[str, ...]
    archived: bool
    started_at: datetime
    changed_at: datetime


def state_of(run: RunStatus) -> RunState:
    return RunState(
        run_id=run.run_id,
        phase=run_summary.state(run),
        ended=run.phase in _ENDED,
        round=run.round,
        planned_rounds=run.planned_rounds,
        labels_paid=run.labels_paid,
        label_budget=run.spec.label_budget,
        labels_open=run.labels_open,
        auto_labels=run.auto_labels,
        accuracy=run_summary.estimate_of(run.latest, run.spec.protocol, run.pool.classes),
        message=run.message,
        progress=run.progress,
        held_up=tuple(hold_ups.told(each) for each in hold_ups.faults(list(run.held_up))),
        archived=run.archived,
        started_at=run.started_at.ToDatetime(UTC),
        changed_at=run.changed_at.ToDatetime(UTC),
    )


def check_success(state: RunState) -> RunState:
    """Return ``state``; raise WrongState if the run failed."""
    if state.phase == "failed":
        message = f"run {state.run_id} failed: {state.message}"
        raise WrongState("RUN_FAILED", message, run_id=state.run_id)
    return state
