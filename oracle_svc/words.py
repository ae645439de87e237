"""What annotators and models say of a request now, for tools that compare it with what they hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from labelloop.events.v1.events_pb2 import AnswerGiven, LabelProvided, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import LabelResult, Prediction
from labelloop.wire.answers import Outcome

from oracle_svc.desk import Desk
from oracle_svc.taking import RequestId


def said(desk: Desk, request: RequestId, source: str) -> list[LabelResult]:
    """The newest word of each annotator on a request that came from ``source``, classes by name."""
    assert desk.pool is not None, "what is asked for lies in a pool"
    classes = desk.pool.classes
    given = [each for each in desk.given.get(request.sample_id, {}).values() if each.source == source]
    heard = [each for each in desk.heard.get(request.sample_id, {}).values() if each.source == source]
    return [*(_given(each, classes) for each in given), *(_heard(each, classes) for each in heard)]


def _given(given: AnswerGiven, classes: Sequence[str]) -> LabelResult:
    word = LabelResult(annotator=given.annotator, revision=given.revision, source_event_id=given.source_event_id)
    match given.WhichOneof("answer"):
        case "label":
            word.class_name = classes[given.label]
        case "skip":
            word.skip = given.skip
        case _:
            word.withdrawn = True
    return word


def _heard(outcome: Outcome, classes: Sequence[str]) -> LabelResult:
    word = LabelResult(
        annotator=outcome.annotator, revision=outcome.answer_revision, source_event_id=outcome.source_event_id
    )
    match outcome:
        case LabelProvided():
            word.class_name = classes[outcome.label]
        case SampleSkipped():
            word.skip = outcome.kind
        case _:
            word.withdrawn = True
    return word


def predicted(desk: Desk, sample_id: int) -> tuple[str, Prediction] | None:
    """The class that the model which asked for the sample sees in it, by name: no newer one is there before its batch
    is whole. None where there was no model, or annotators do without."""
    prediction = desk.predictions.get(sample_id)
    if prediction is None or desk.pool is None or desk.spec.queue.hide_predictions:
        return None
    return desk.pool.classes[prediction.label], prediction
