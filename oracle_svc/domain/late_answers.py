"""Keep answers that contradict the outcome of a sample which was settled before they came. No I/O.

They are recorded and shown, and decide nothing: whoever runs the campaign may look at the sample and revise its label.
Once their annotator agrees with the outcome they are shown no more.
"""

from __future__ import annotations

from labelloop.domain.ids import RequestId
from labelloop.domain.limits import SKIP_KINDS
from labelloop.domain.sample_outcomes import Outcome
from labelloop.errors import WrongState
from labelloop.events.v1.events_pb2 import AnswerGiven, Event, LabelProvided, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain.labeling_state import LabelingState

_FIRST_SLOT = 1_000  # far above the slots of annotators who are asked
_KEPT_MAX = 100  # of a sample


def contradicting(labeling: LabelingState, sample_id: int) -> list[AnswerGiven]:
    """Return the late answers of a sample that contradict its outcome as it is now, in the order of the log.

    Without those of people whose last one agrees with it.
    """
    standing, kept = labeling.answers.standing.get(sample_id), labeling.late.get(sample_id, ())
    last = {late.annotator: late for late in kept}
    return [
        late
        for late in kept
        if _contradicts(standing, _label(late)) and _contradicts(standing, _label(last[late.annotator]))
    ]


def late_answer(
    labeling: LabelingState, request: RequestId, result: LabelResult, source: str, label: int, field: str
) -> Event | None:
    """Return the event that keeps a result for a settled sample; None if it contradicts nothing or is kept already.

    One that agrees with the outcome is kept too if its annotator contradicted it before. After the end of the run
    nothing is kept. Raises WrongState if many late answers are kept of the sample.
    """
    sample_id, said = request.sample_id, result.WhichOneof("answer")
    class_, kept = None if said == "skip" else label, labeling.late.get(sample_id, ())
    standing = labeling.answers.standing.get(sample_id)
    if labeling.over or said == "withdrawn":
        return None
    own = [late for late in kept if late.annotator == result.annotator]
    contradicts, did = _contradicts(standing, class_), bool(own) and _contradicts(standing, _label(own[-1]))
    if not (contradicts or did):
        return None
    same = [late for late in own if _label(late) == class_]
    if contradicts and any(did or late.source_event_id == result.source_event_id for late in same):
        return None
    if len(kept) >= _KEPT_MAX:
        message = f"{len(kept)} answers that contradict the outcome of sample {sample_id} are kept, and no more are"
        raise WrongState("TOO_MANY_ANSWERS", message, field=field, sample_id=sample_id, most=_KEPT_MAX)
    given = answer_of(result, request, source, _FIRST_SLOT + len(kept))
    given.revision = 0
    if class_ is None:
        given.late_skip = result.skip
    else:
        given.late_label = class_
    return Event(run_id=labeling.run_id, round=request.round, answer_given=given)


def answer_of(result: LabelResult, request: RequestId, source: str, slot: int) -> AnswerGiven:
    """Return an annotator's result as an answer in a slot, without what it says."""
    return AnswerGiven(
        sample_id=request.sample_id,
        slot=slot,
        revision=result.revision,
        source=source,
        annotator=result.annotator,
        annotator_id=result.annotator_id,
        time_spent_s=result.time_spent_s,
        source_event_id=result.source_event_id,
        comment=result.comment,
    )


def _label(late: AnswerGiven) -> int | None:
    """Return the class of a late answer; None if it is a skip."""
    return late.late_label if late.HasField("late_label") else None


def _contradicts(standing: Outcome | None, label: int | None) -> bool:
    """Return whether a class, or a skip if ``label`` is None, is something else than the outcome ``standing``.

    Nothing contradicts a sample without an outcome, or one that was given up: its request expired or was cancelled, or
    its annotators did not agree.
    """
    match standing:
        case LabelProvided():
            return label != standing.label
        case SampleSkipped():
            return label is not None and standing.kind in SKIP_KINDS
        case _:
            return False
