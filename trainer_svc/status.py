"""Convert the state of a run to the messages that clients receive. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labelloop.domain.hold_ups import HoldUp, message_of, said
from labelloop.domain.run_stage import beginning_of
from labelloop.domain.summaries import Summaries
from labelloop.trainer.v1.trainer_pb2 import LabelRecord, Phase, RoundResult, RunStatus

from trainer_svc.accuracies import measured
from trainer_svc.domain.examples import Example
from trainer_svc.domain.run_state import RunState, Trained
from trainer_svc.domain.stopping import control_bound

SERVICE = "trainer"
_ENDS = {
    "run_finished": Phase.PHASE_FINISHED,
    "run_cancelled": Phase.PHASE_CANCELLED,
    "run_failed": Phase.PHASE_FAILED,
}


def status_of(state: RunState, held_up: Sequence[HoldUp] = ()) -> RunStatus:
    """Return the status of a run.

    Args:
        held_up: What holds it up now, long steps among it.
    """
    found = () if state.ended else [each for each in held_up if state.open_labels or not each.tool]
    at_work = "; ".join(dict.fromkeys(each.problem for each in found if each.at_work))
    status = RunStatus(
        run_id=state.run_id,
        spec=state.spec,
        phase=phase_of(state),
        round=state.round,
        planned_rounds=state.planned_rounds,
        labels_paid=state.labels_paid,
        labels_open=state.open_labels,
        auto_labels=state.run_log.auto_labels,
        samples_skipped=state.samples_skipped,
        pool=state.pool,
        latest=round_result(state.models[-1], state.planned_rounds) if state.models else None,
        message=state.ended.why if state.ended else said(found, SERVICE),
        continues=state.inheritance.run_id,
        certificate=state.run_log.certificate,
        audit_labels=state.audit_labels,
        features=state.run_log.features,
        head_sha256=state.head_sha256,
        progress=at_work or beginning_of(state.run_log),
        held_up=map(message_of, found),
    )
    status.started_at.FromDatetime(state.started_at)
    status.changed_at.FromDatetime(state.changed_at)
    return status


def phase_of(state: RunState) -> Phase.ValueType:
    if state.ended:
        return _ENDS[state.ended.kind]
    if state.pool is None:
        return Phase.PHASE_PUBLISHING
    return Phase.PHASE_LABELLING if state.answers.batch else Phase.PHASE_WORKING


def round_result(trained: Trained, planned_rounds: int, *, by_class: bool = False) -> RoundResult:
    """Return what clients receive of a model, with the counts ``by_class`` or without, as these are long."""
    event = trained.event
    result = RoundResult(
        round=trained.round,
        labels=event.labels,
        auto_labels=event.auto_labels,
        stopping=measured(event.stopping, by_class=by_class),
        evaluation=measured(event.evaluation, by_class=by_class),
        model_sha256=event.model_sha256,
        steps=event.steps,
        fit_s=event.fit_s,
        calibration_error=event.calibration_error,
        evaluation_calibration_error=event.evaluation_calibration_error,
        control_labels=event.control_labels,
        control=measured(event.control, by_class=by_class),
        control_evaluation=measured(event.control_evaluation, by_class=by_class),
        agreement=event.agreement if event.HasField("agreement") else None,
        expected_accuracy=event.expected_accuracy,
        l2=event.l2,
        temperature=event.temperature,
        control_bound=control_bound(event, planned_rounds),
    )
    result.recorded_at.FromDatetime(trained.at)
    return result


def label_records(state: RunState) -> Iterator[LabelRecord]:
    return (_record(example) for example in state.each_labelled())


def _record(example: Example) -> LabelRecord:
    record = LabelRecord(
        sample_id=example.sample_id,
        label=example.label,
        auto_labelled=example.auto_labelled,
        source=example.source,
        annotator=example.annotator,
        round=example.round,
        predicted=example.predicted,
        confidence=example.confidence,
        purpose=example.purpose,
        score=example.score,
    )
    record.recorded_at.FromDatetime(example.at)
    return record


STATUSES = Summaries(lambda status: bytes(status.SerializeToString()), RunStatus.FromString)
"""How the statuses of ended runs are kept in a snapshot."""
