"""Validate annotation results and convert them to events. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from labelloop.domain.class_names import class_named, near_match
from labelloop.domain.ids import RequestId
from labelloop.domain.limits import COMMENT_CHARACTERS_MAX, SKIP_KINDS, TEXT_CHARACTERS_MAX
from labelloop.domain.names import name_fault, normalised, prose_fault
from labelloop.domain.sample_outcomes import Outcome
from labelloop.errors import InvalidInput, WrongState
from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    Event,
    LabelProvided,
    LabelWithdrawn,
    SampleSkipped,
    SkipKind,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.late_answers import answer_of, late_answer

REVISION_MAX = 1_000_000
_TAKEN_BACK = {SkipKind.SKIP_KIND_EXPIRED: "its deadline is over", SkipKind.SKIP_KIND_CANCELLED: "it was taken back"}


def admit(labeling: LabelingState, result: LabelResult, source: str, field: str) -> Event | None:
    """Return the event for ``result``; None if it is recorded already, or agrees with the outcome of a settled sample.

    A result that contradicts the outcome of a settled sample becomes a late answer, which decides nothing.

    Args:
        source: Recorded as the event's source.
        field: The request field that errors about the result name.

    Raises:
        InvalidInput: If the result can never be accepted: it is malformed, or the run did not request it.
        WrongState: If the run does not accept it in its current state: it has no pool, gets its labels from its dataset
            or has ended, or the request expired or was cancelled, or another annotator's result would be withdrawn, or
            its annotator has answered another request for the sample, or was removed.
    """
    result = _as_in_log(labeling, result)
    event = _admitted(labeling, result, source, field)
    if event:
        check_takes_part(labeling, result.annotator)
    return event


def is_recorded(labeling: LabelingState, result: LabelResult) -> bool:
    """Return whether the log has a result of the same annotator with the same revision."""
    sample_id, name = RequestId.parse(result.request_id).sample_id, _as_in_log(labeling, result).annotator
    slot, heard = labeling.slot_of(sample_id, name), labeling.heard_from(sample_id, name)
    given = None if slot is None else labeling.given[sample_id][slot].revision
    return result.revision in (given, heard.answer_revision if heard else None)


def _as_in_log(labeling: LabelingState, result: LabelResult) -> LabelResult:
    """Return a result with the name under which the log has its annotator."""
    name = labeling.name_in_log(result.annotator, result.annotator_id)
    if name == result.annotator:
        return result
    renamed = LabelResult()
    renamed.CopyFrom(result)
    renamed.annotator = name
    return renamed


def _admitted(labeling: LabelingState, result: LabelResult, source: str, field: str) -> Event | None:
    request = RequestId.parse(result.request_id)
    check_result(result, field)
    _check_labeling(labeling)
    label = _class_of(labeling, request, result, field) if result.WhichOneof("answer") != "skip" else 0
    if request.sample_id in labeling.gold and request.round == 0:
        return _one_of_several(labeling, request, result, source, label, field)
    if labeling.answers.rounds.get(request.sample_id) != request.round:
        message = f"run {labeling.run_id!r} does not ask for sample {request.sample_id} in round {request.round}"
        raise InvalidInput("NOT_ASKED_FOR", message, field=field, sample_id=request.sample_id)
    if labeling.annotators > 1:
        return _one_of_several(labeling, request, result, source, label, field)
    return _the_only_one(labeling, request, result, source, label, field)


def check_result(result: LabelResult, field: str) -> None:
    check_words(result.annotator, result.comment, result.source_event_id, field, result.annotator_id)
    if not 0 <= result.time_spent_s < math.inf:
        raise InvalidInput("BAD_TIME", "time_spent_s must be seconds, 0 or more", field=field)
    if result.revision > REVISION_MAX:
        message = f"revision {result.revision} lies above {REVISION_MAX}: count a request's revisions from 0"
        raise InvalidInput("BAD_REVISION", message, field=field, revision=result.revision)
    said = result.WhichOneof("answer")
    if said is None or (said == "withdrawn" and not result.withdrawn):
        message = f"the result of {result.request_id} says nothing: a label, a class name, a skip or a withdrawal"
        raise InvalidInput("NO_ANSWER", message, field=field)
    if said == "skip" and result.skip not in SKIP_KINDS:
        message = f"say why the sample of {result.request_id} is skipped: skipped, or rejected"
        raise InvalidInput("NO_SKIP_KIND", message, field=field)


def check_annotator(annotator: str) -> None:
    """Raise InvalidInput if no requests can be leased under this name: it is empty, or no name as of check_words."""
    if not normalised(annotator):
        raise InvalidInput("NO_ANNOTATOR", "say who takes the requests", field="annotator")
    check_words(annotator)


def check_takes_part(labeling: LabelingState, annotator: str) -> None:
    """Raise WrongState if the annotator was removed from the run."""
    if removal := labeling.run_log.annotators.removal_of(labeling.identity_of(annotator)):
        by = f" by {removal.by}" if removal.by else ""
        message = (
            f"{annotator!r} was removed from run {labeling.run_id!r}{by}: whoever runs it can restore them with "
            "`labelloop label annotators restore`"
        )
        raise WrongState("ANNOTATOR_REMOVED", message, field="annotator", run_id=labeling.run_id, annotator=annotator)


def where_taking_part(labelings: Sequence[LabelingState], annotator: str) -> list[LabelingState]:
    """Return the runs that the annotator was not removed from. Raises WrongState if that leaves none."""
    here = [each for each in labelings if not each.run_log.annotators.removal_of(each.identity_of(annotator))]
    if labelings and not here:
        check_takes_part(labelings[0], annotator)
    return here


def check_words(
    annotator: str, comment: str = "", source_event_id: str = "", field: str = "comment", annotator_id: str = ""
) -> None:
    """Raise InvalidInput if one of the texts is too long to be recorded, or holds characters that cannot be seen.

    Every result passes here, by whatever way it came: the page, gRPC, a webhook, a queue, a tool or a file.
    """
    for what, text, most in (
        ("annotator", annotator, TEXT_CHARACTERS_MAX),
        ("annotator_id", annotator_id, TEXT_CHARACTERS_MAX),
        ("source_event_id", source_event_id, TEXT_CHARACTERS_MAX),
        ("comment", comment, COMMENT_CHARACTERS_MAX),
    ):
        if len(text) > most:
            message = f"the {what} has {len(text)} characters: shorten it to {most}"
            place = what if what == "annotator" else field
            raise InvalidInput(f"{what.upper()}_TOO_LONG", message, field=place, characters=len(text), most=most)
        if fault := prose_fault(text, most) if what == "comment" else name_fault(text, most):
            place = what if what == "annotator" else field
            raise InvalidInput(f"BAD_{what.upper()}", f"the {what} is refused: {fault}", field=place)


def _check_labeling(labeling: LabelingState) -> None:
    if labeling.pool is None:
        raise WrongState("POOL_MISSING", f"run {labeling.run_id!r} has no pool yet", run_id=labeling.run_id)
    check_labels_of_people(labeling)


def check_labels_of_people(labeling: LabelingState) -> None:
    """Raise WrongState if the run gets its labels from its dataset."""
    if not labeling.for_people:
        message = f"run {labeling.run_id!r} gets its labels from its dataset, not from people"
        raise WrongState("NOT_A_QUEUE", message, run_id=labeling.run_id)


def _class_of(labeling: LabelingState, request: RequestId, result: LabelResult, field: str) -> int:
    """Return the index of the class that ``result`` names, or 0 for a withdrawal. Raises InvalidInput if unknown."""
    assert labeling.pool is not None, "checked before"
    classes = list(labeling.pool.classes)
    if result.HasField("class_name"):
        if result.class_name in classes:
            return classes.index(result.class_name)
        named = class_named(result.class_name, classes)
        if named is not None:
            return named
        question = near_match(result.class_name, classes)
        message = f"{result.class_name!r} of sample {request.sample_id} is none of the classes {', '.join(classes)}"
        message += f"; {question}" if question else ""
        raise InvalidInput("UNKNOWN_CLASS", message, field=field, sample_id=request.sample_id, label=result.class_name)
    if result.label >= len(classes):
        message = f"class {result.label} of sample {request.sample_id} lies outside the classes 0 to {len(classes) - 1}"
        raise InvalidInput("UNKNOWN_CLASS", message, field=field, sample_id=request.sample_id, label=result.label)
    return result.label


def _the_only_one(
    labeling: LabelingState, request: RequestId, result: LabelResult, source: str, label: int, field: str
) -> Event | None:
    """Validate a result of a sample for which one annotator is asked: it becomes the sample's outcome.

    The first result is accepted. To replace it, a later one must be marked as a correction by a revision above 0.
    """
    sample_id = request.sample_id
    before = labeling.heard_from(sample_id, result.annotator)
    if before and result.revision < before.answer_revision:
        return None
    standing = labeling.answers.standing.get(sample_id)
    holds = standing is not None and not isinstance(standing, LabelWithdrawn)
    if before and result.revision == before.answer_revision:
        if isinstance(before, LabelWithdrawn) or _says_the_same(before, result, label):
            return None
        if sample_id in labeling.open:
            raise _answered_already(request, result, before.answer_revision, field)
        return late_answer(labeling, request, result, source, label, field)
    _check_not_taken_back(labeling, sample_id, field)
    if holds and result.revision == 0:
        return late_answer(labeling, request, result, source, label, field)
    _check_open(labeling, sample_id, field)
    if standing and holds and result.withdrawn and not result.overrules:
        _check_own(labeling, standing, result, field)
    event = Event(run_id=labeling.run_id, round=request.round)
    given: dict[str, Any] = {
        "sample_id": sample_id,
        "source": source,
        "annotator": result.annotator,
        "annotator_id": result.annotator_id,
        "revision": labeling.answers.next_revision(sample_id),
        "answer_revision": result.revision,
        "source_event_id": result.source_event_id,
    }
    match result.WhichOneof("answer"):
        case "skip":
            skip = SampleSkipped(kind=result.skip, comment=result.comment, **given)
            event.sample_skipped.CopyFrom(skip)
        case "withdrawn":
            event.label_withdrawn.CopyFrom(LabelWithdrawn(**given))
        case _:
            provided = LabelProvided(label=label, time_spent_s=result.time_spent_s, **given)
            event.label_provided.CopyFrom(provided)
    return event


def _says_the_same(before: AnswerGiven | Outcome, result: LabelResult, label: int) -> bool:
    """Return whether a result has the class, or the skip, or withdraws, as ``before`` does."""
    match result.WhichOneof("answer"):
        case "skip":
            return (before.kind if isinstance(before, SampleSkipped) else getattr(before, "skip", 0)) == result.skip
        case "withdrawn":
            return isinstance(before, AnswerGiven) and before.withdrawn
        case _:
            named = isinstance(before, LabelProvided) or (isinstance(before, AnswerGiven) and before.HasField("label"))
            return named and getattr(before, "label", None) == label


def _check_open(labeling: LabelingState, sample_id: int, field: str) -> None:
    """Raise WrongState if the run has ended, because it takes no new results then."""
    if labeling.over:
        message = f"run {labeling.run_id!r} has ended: nothing new is said of its sample {sample_id} any more"
        raise WrongState("RUN_OVER", message, field=field, run_id=labeling.run_id)


def _check_own(labeling: LabelingState, standing: Outcome, result: LabelResult, field: str) -> None:
    """Raise WrongState if the result would withdraw another annotator's."""
    if labeling.identity_of(standing.annotator) != labeling.identity_of(result.annotator):
        message = (
            f"{result.annotator!r} cannot withdraw what {standing.annotator!r} said of sample {standing.sample_id}: "
            "send another label, or set overrules"
        )
        raise WrongState("NOT_THEIRS", message, field=field, sample_id=standing.sample_id)


def _check_not_taken_back(labeling: LabelingState, sample_id: int, field: str) -> None:
    """Raise WrongState if the sample's request expired or was cancelled."""
    standing = labeling.answers.standing.get(sample_id)
    if isinstance(standing, SampleSkipped) and (why := _TAKEN_BACK.get(standing.kind)):
        message = f"sample {sample_id} of run {labeling.run_id!r} is no longer asked for: {why}"
        raise WrongState("TOO_LATE", message, field=field, sample_id=sample_id)


def _one_of_several(
    labeling: LabelingState, request: RequestId, result: LabelResult, source: str, label: int, field: str
) -> Event | None:
    """Validate a result that fills a slot: for a gold sample, or one for which several annotators are asked.

    The slot is the one that the annotator has filled before, else the one in the request id, else the first free one.
    """
    sample_id, slots = request.sample_id, labeling.given.get(request.sample_id, {})
    if not result.annotator and labeling.annotators > 1:
        message = f"several annotators are asked for sample {sample_id}: say which of them answers"
        raise InvalidInput("NO_ANNOTATOR", message, field=field, sample_id=sample_id)
    own = labeling.slot_of(sample_id, result.annotator)
    if own is not None and _stands(slots[own], request, result, label, field):
        return None
    _check_not_taken_back(labeling, sample_id, field)
    _check_open(labeling, sample_id, field)
    if own is None and sample_id not in labeling.gold and sample_id not in labeling.open:
        return late_answer(labeling, request, result, source, label, field)
    slot = _slot(labeling, request, slots) if own is None else own
    given = answer_of(result, request, source, slot)
    if request.slot not in (None, slot):
        given.requested_slot = request.slot or 0
    match result.WhichOneof("answer"):
        case "skip":
            given.skip = result.skip
        case "withdrawn":
            given.withdrawn = True
        case _:
            given.label = label
    return Event(run_id=labeling.run_id, round=request.round, answer_given=given)


def _stands(own: AnswerGiven, request: RequestId, result: LabelResult, label: int, field: str) -> bool:
    """Return whether a result repeats its annotator's answer ``own``, or is an older revision of it.

    Raises WrongState for another answer of the same revision, and for an answer to the request of another slot while
    ``own`` holds: nobody is two annotators, and somebody else has to be asked.
    """
    asked = own.requested_slot if own.HasField("requested_slot") else own.slot
    if request.slot not in (None, asked, own.slot) and not own.withdrawn:
        message = (
            f"{result.annotator!r} has answered request {request.sample}/{asked} of the same sample: {request} wants "
            "another annotator"
        )
        raise WrongState("ANSWERED_ALREADY", message, field=field, sample_id=request.sample_id)
    if result.revision == own.revision and not _says_the_same(own, result, label):
        raise _answered_already(request, result, own.revision, field)
    return result.revision <= own.revision


def _answered_already(request: RequestId, result: LabelResult, revision: int, field: str) -> WrongState:
    """Return the error for a result that differs from its annotator's own of the same revision."""
    message = (
        f"{result.annotator!r} has said something else of sample {request.sample_id} as revision {revision}: send a "
        f"correction as revision {revision + 1}"
    )
    return WrongState("ANSWERED_ALREADY", message, field=field, sample_id=request.sample_id)


def _slot(labeling: LabelingState, request: RequestId, slots: Mapping[int, AnswerGiven]) -> int:
    """Return the slot in the request id if it is free and within the annotator limit, else the first free slot."""
    if request.slot is not None and request.slot not in slots and request.slot < labeling.annotators_max:
        return request.slot
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)
