"""Validate annotation results and convert them to events. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from labelloop.domain.class_names import class_named, near_match
from labelloop.domain.ids import RequestId
from labelloop.domain.limits import COMMENT_CHARACTERS_MAX, SKIP_KINDS, TEXT_CHARACTERS_MAX
from labelloop.domain.names import name_fault, prose_fault
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

Given = TypeVar("Given", LabelProvided | SampleSkipped | LabelWithdrawn, AnswerGiven)

ANSWERED_BY_ANOTHER = "ANSWERED_BY_ANOTHER"
_REVISION_MAX = 1_000_000
_TAKEN_BACK = {SkipKind.SKIP_KIND_EXPIRED: "its deadline is over", SkipKind.SKIP_KIND_CANCELLED: "it was taken back"}


def admit(labeling: LabelingState, result: LabelResult, source: str, field: str) -> Event | None:
    """Return the event for ``result``; None if it is recorded already, or came after all that were asked for.

    Args:
        source: Recorded as the event's source.
        field: The request field that errors about the result name.

    Raises:
        InvalidInput: If the result can never be accepted: it is malformed, or the run did not request it.
        WrongState: If the run does not accept it in its current state: it has no pool, gets its labels from its dataset
            or has ended, or the request expired or was cancelled, or another annotator's result would be withdrawn.
    """
    request = RequestId.parse(result.request_id)
    _check_result(result, field)
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


def is_recorded(labeling: LabelingState, result: LabelResult) -> bool:
    """Return whether the log has a result of the same annotator with the same revision."""
    sample_id = RequestId.parse(result.request_id).sample_id
    given = _own(labeling.given.get(sample_id, {}).values(), result)
    heard = _own(labeling.heard.get(sample_id, {}).values(), result)
    return result.revision in (given.revision if given else None, heard.answer_revision if heard else None)


def contradiction(labeling: LabelingState, result: LabelResult) -> WrongState | None:
    """Return the error of a result that was not recorded and differs from the sample's outcome; None if it does not.

    That is the result of an annotator beyond those who were asked: the run has its label, and somebody disagrees.
    """
    sample_id = RequestId.parse(result.request_id).sample_id
    outcome = labeling.answers.standing.get(sample_id)
    given = labeling.given.get(sample_id, {})
    known = _own(labeling.heard.get(sample_id, {}).values(), result) or _own(given.values(), result)
    if known or outcome is None or isinstance(outcome, LabelWithdrawn) or result.WhichOneof("answer") == "withdrawn":
        return None
    assert labeling.pool is not None, "what has an outcome lies in a pool"
    classes = labeling.pool.classes
    holds = classes[outcome.label] if isinstance(outcome, LabelProvided) else "no class"
    says = (
        classes[_class_of(labeling, RequestId.parse(result.request_id), result, "results")]
        if (result.WhichOneof("answer") != "skip")
        else "no class"
    )
    if says == holds:
        return None
    message = (
        f"{result.annotator!r} says {says!r} of sample {sample_id}, which has {holds!r} from "
        f"{outcome.annotator or outcome.source!r}: if that is wrong, `labelloop label revise` sets another class; "
        "then discard this letter"
    )
    return WrongState(ANSWERED_BY_ANOTHER, message, sample_id=sample_id)


def _check_result(result: LabelResult, field: str) -> None:
    check_words(result.annotator, result.comment, result.source_event_id, field, result.annotator_id)
    if not 0 <= result.time_spent_s < math.inf:
        raise InvalidInput("BAD_TIME", "time_spent_s must be seconds, 0 or more", field=field)
    if result.revision > _REVISION_MAX:
        message = f"revision {result.revision} lies above {_REVISION_MAX}: count a request's revisions from 0"
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
    if not annotator:
        raise InvalidInput("NO_ANNOTATOR", "say who takes the requests", field="annotator")
    check_words(annotator)


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
    before = _own(labeling.heard.get(sample_id, {}).values(), result)
    if before and result.revision <= before.answer_revision:
        return None
    _check_not_taken_back(labeling, sample_id, field)
    standing = labeling.answers.standing.get(sample_id)
    holds = standing is not None and not isinstance(standing, LabelWithdrawn)
    if holds and result.revision == 0:
        return None
    _check_open(labeling, sample_id, field)
    if standing and holds and result.withdrawn and not result.overrules:
        _check_own(standing, result, field)
    event = Event(run_id=labeling.run_id, round=request.round)
    given: dict[str, Any] = {
        "sample_id": sample_id,
        "source": source,
        "annotator": before.annotator if before else result.annotator,
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


def _check_open(labeling: LabelingState, sample_id: int, field: str) -> None:
    """Raise WrongState if the run has ended, because it takes no new results then."""
    if labeling.over:
        message = f"run {labeling.run_id!r} has ended: nothing new is said of its sample {sample_id} any more"
        raise WrongState("RUN_OVER", message, field=field, run_id=labeling.run_id)


def _check_own(standing: Outcome, result: LabelResult, field: str) -> None:
    """Raise WrongState if the result would withdraw another annotator's."""
    if standing.annotator != result.annotator:
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
    before = _own(slots.values(), result)
    if before and result.revision <= before.revision:
        return None
    _check_not_taken_back(labeling, sample_id, field)
    _check_open(labeling, sample_id, field)
    if before is None and sample_id not in labeling.gold and sample_id not in labeling.open:
        return None  # all annotators who were asked have responded
    given = AnswerGiven(
        sample_id=sample_id,
        slot=before.slot if before else _slot(labeling, request, slots),
        revision=result.revision,
        source=source,
        annotator=before.annotator if before else result.annotator,
        annotator_id=result.annotator_id,
        time_spent_s=result.time_spent_s,
        source_event_id=result.source_event_id,
        comment=result.comment,
    )
    match result.WhichOneof("answer"):
        case "skip":
            given.skip = result.skip
        case "withdrawn":
            given.withdrawn = True
        case _:
            given.label = label
    return Event(run_id=labeling.run_id, round=request.round, answer_given=given)


def _own(given: Iterable[Given], result: LabelResult) -> Given | None:
    """Return the result in ``given`` that is from the same annotator as ``result``.

    Two results with ids of a tool are one annotator's if the ids are equal, others if the names are.
    """
    named = None
    for each in given:
        if each.annotator_id and result.annotator_id:
            if each.annotator_id == result.annotator_id:
                return each
        elif each.annotator == result.annotator:
            named = named or each
    return named


def _slot(labeling: LabelingState, request: RequestId, slots: Mapping[int, AnswerGiven]) -> int:
    """Return the slot in the request id if it is free and within the annotator limit, else the first free slot."""
    if request.slot is not None and request.slot not in slots and request.slot < labeling.annotators_max:
        return request.slot
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)
