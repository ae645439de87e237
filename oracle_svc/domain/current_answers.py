"""Look up a request's recorded results and prediction, for integrations to compare with their tools'. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from labelloop.domain.ids import RequestId
from labelloop.domain.sample_outcomes import Outcome
from labelloop.events.v1.events_pb2 import AnswerGiven, LabelProvided, LabelWithdrawn, SampleSkipped
from labelloop.oracle.v1.oracle_pb2 import LabelResult, Prediction

from oracle_svc.domain.labeling_state import LabelingState


@dataclass(frozen=True)
class RequestResults:
    """What the log holds of a request from one source.

    Attributes:
        newest: Each annotator's newest result, with classes by name.
        superseded: Who gave the results that those replaced, and late answers, by ``source_event_id``.
    """

    newest: Sequence[LabelResult] = ()
    superseded: Mapping[str, str] = field(default_factory=dict)


def results_of(labeling: LabelingState, request: RequestId, source: str) -> RequestResults:
    """Return what the log holds of a request among what came from ``source``."""
    superseded = labeling.superseded.get(request.sample_id, {}).items()
    givers = {event_id: annotator for event_id, (annotator, origin) in superseded if origin == source}
    givers |= {
        late.source_event_id: late.annotator
        for late in labeling.late.get(request.sample_id, ())
        if late.source == source and late.source_event_id
    }
    return RequestResults(said(labeling, request, source), givers)


def standing_count(labeling: LabelingState, source: str) -> int:
    """Count the results from ``source`` that stand: each annotator's newest one for a sample, if not withdrawn."""
    given = (each for slots in labeling.given.values() for each in slots.values())
    heard = (each for results in labeling.heard.values() for each in results.values())
    return sum(each.source == source and not each.withdrawn for each in given) + sum(
        each.source == source and not isinstance(each, LabelWithdrawn) for each in heard
    )


def held_withdrawals(labeling: LabelingState, source: str) -> list[LabelResult]:
    """Return the withdrawals that wait for a person, by request, without those that the log has overtaken."""
    return sorted(
        (each for each in labeling.held if not labeling.over and not _is_overtaken(labeling, each, source)),
        key=lambda each: (each.request_id, each.annotator),
    )


def _is_overtaken(labeling: LabelingState, withdrawal: LabelResult, source: str) -> bool:
    newest = said(labeling, RequestId.parse(withdrawal.request_id), source)
    return any(each.annotator == withdrawal.annotator and each.revision >= withdrawal.revision for each in newest)


def digest_of(withdrawals: Sequence[LabelResult]) -> str:
    """Return what identifies a list of withdrawals; empty for none."""
    parts = [part for each in withdrawals for part in (each.request_id, each.annotator, str(each.revision))]
    return sha256(json.dumps(parts).encode()).hexdigest() if parts else ""


def said(labeling: LabelingState, request: RequestId, source: str) -> list[LabelResult]:
    """Return each annotator's newest result for a request among those from ``source``, with classes by name."""
    assert labeling.pool is not None, "what is asked for lies in a pool"
    classes = labeling.pool.classes
    given = [each for each in labeling.given.get(request.sample_id, {}).values() if each.source == source]
    heard = [each for each in labeling.heard.get(request.sample_id, {}).values() if each.source == source]
    return [*(_given(each, classes) for each in given), *(_heard(each, classes) for each in heard)]


class Answers(Protocol):
    """Recorded results of a run, as LabelingState has them."""

    @property
    def given(self) -> Mapping[int, Mapping[int, AnswerGiven]]: ...

    @property
    def heard(self) -> Mapping[int, Mapping[str, Outcome]]: ...


def said_by(answers: Answers, sample_id: int, annotator: str) -> bool:
    """Return whether a label or skip of a sample by ``annotator`` is recorded and not withdrawn."""
    given = [each for each in answers.given.get(sample_id, {}).values() if each.annotator == annotator]
    if any(each.WhichOneof("answer") in ("label", "skip") for each in given):
        return True
    return isinstance(answers.heard.get(sample_id, {}).get(annotator), LabelProvided | SampleSkipped)


def _given(given: AnswerGiven, classes: Sequence[str]) -> LabelResult:
    word = LabelResult(
        annotator=given.annotator,
        annotator_id=given.annotator_id,
        revision=given.revision,
        source_event_id=given.source_event_id,
    )
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
        annotator=outcome.annotator,
        annotator_id=outcome.annotator_id,
        revision=outcome.answer_revision,
        source_event_id=outcome.source_event_id,
    )
    match outcome:
        case LabelProvided():
            word.class_name = classes[outcome.label]
        case SampleSkipped():
            word.skip = outcome.kind
        case _:
            word.withdrawn = True
    return word


def predicted(labeling: LabelingState, sample_id: int) -> tuple[str, Prediction] | None:
    """Return the class name and the prediction of the model that selected the sample.

    No newer model exists before the sample's batch is complete. Returns None if there was no model, or if the run hides
    predictions from annotators.
    """
    prediction = labeling.predictions.get(sample_id)
    if prediction is None or labeling.pool is None or labeling.spec.queue.hide_predictions:
        return None
    return labeling.pool.classes[prediction.label], prediction
