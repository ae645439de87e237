"""Whether an answer can be taken, and the event that it becomes. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labelloop.events.v1.events_pb2 import (
    AnswerGiven,
    Event,
    LabelProvided,
    LabelWithdrawn,
    SampleSkipped,
    SkipKind,
)
from labelloop.oracle.v1.oracle_pb2 import LabelResult
from labelloop.wire.answers import Outcome
from labelloop.wire.errors import InvalidInput, WrongState
from labelloop.wire.run_rules import SKIP_KINDS

from oracle_svc.desk import Desk

TEXT_CHARACTERS_MAX, COMMENT_CHARACTERS_MAX = 200, 1_000
_REVISION_MAX = 1_000_000
_REQUEST_ID = re.compile(r"([A-Za-z0-9_-]{1,64})/(\d{1,9})/(\d{1,9})(?:/(\d{1,9}))?")
_TAKEN_BACK = {SkipKind.SKIP_KIND_EXPIRED: "its deadline is over", SkipKind.SKIP_KIND_CANCELLED: "it was taken back"}


@dataclass(frozen=True)
class RequestId:
    """``slot`` is None where the tool shares a sample out among its annotators."""

    run_id: str
    round: int
    sample_id: int
    slot: int | None = None

    @classmethod
    def parse(cls, text: str) -> RequestId:
        """InvalidInput where ``text`` is none."""
        found = _REQUEST_ID.fullmatch(text)
        if not found:
            message = f"{text[:TEXT_CHARACTERS_MAX]!r} is no request id: send back the request's own"
            raise InvalidInput("BAD_REQUEST_ID", message, field="request_id", request_id=text)
        run_id, round_, sample_id, slot = found.groups()
        return cls(run_id, int(round_), int(sample_id), None if slot is None else int(slot))

    def __str__(self) -> str:
        place = f"{self.run_id}/{self.round}/{self.sample_id}"
        return place if self.slot is None else f"{place}/{self.slot}"


def admit(desk: Desk, result: LabelResult, source: str, field: str) -> Event | None:
    """The event that ``result`` becomes; None where it stands already, or came behind another annotator's.

    InvalidInput where it can never be taken, WrongState where it comes too late; ``field`` is at fault then.
    """
    request = RequestId.parse(result.request_id)
    _check_result(result, field)
    _check_desk(desk)
    label = _class_of(desk, request, result, field) if result.WhichOneof("answer") != "skip" else 0
    if request.sample_id in desk.gold and request.round == 0:
        return _one_of_several(desk, request, result, source, label, field)
    if desk.answers.rounds.get(request.sample_id) != request.round:
        message = f"run {desk.run_id!r} does not ask for sample {request.sample_id} in round {request.round}"
        raise InvalidInput("NOT_ASKED_FOR", message, field=field, sample_id=request.sample_id)
    if desk.annotators > 1:
        return _one_of_several(desk, request, result, source, label, field)
    return _the_only_one(desk, request, result, source, label, field)


def _check_result(result: LabelResult, field: str) -> None:
    check_words(result.annotator, result.comment, result.source_event_id, field)
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
    """InvalidInput where nobody could be given requests under that name."""
    if not annotator:
        raise InvalidInput("NO_ANNOTATOR", "say who takes the requests", field="annotator")
    check_words(annotator)


def check_words(annotator: str, comment: str = "", source_event_id: str = "", field: str = "comment") -> None:
    """InvalidInput for what is too long to be kept."""
    for what, text, most in (
        ("annotator", annotator, TEXT_CHARACTERS_MAX),
        ("source_event_id", source_event_id, TEXT_CHARACTERS_MAX),
        ("comment", comment, COMMENT_CHARACTERS_MAX),
    ):
        if len(text) > most:
            message = f"the {what} has {len(text)} characters: shorten it to {most}"
            place = what if what == "annotator" else field
            raise InvalidInput(f"{what.upper()}_TOO_LONG", message, field=place, characters=len(text), most=most)


def _check_desk(desk: Desk) -> None:
    if desk.pool is None:
        raise WrongState("POOL_MISSING", f"run {desk.run_id!r} has no pool yet", run_id=desk.run_id)
    if not desk.for_people:
        message = f"run {desk.run_id!r} gets its labels from its dataset, not from people"
        raise WrongState("NOT_A_QUEUE", message, run_id=desk.run_id)


def _class_of(desk: Desk, request: RequestId, result: LabelResult, field: str) -> int:
    """The class that ``result`` names; 0 for a withdrawal."""
    assert desk.pool is not None, "checked before"
    classes = list(desk.pool.classes)
    if result.HasField("class_name"):
        if result.class_name in classes:
            return classes.index(result.class_name)
        message = f"{result.class_name!r} of sample {request.sample_id} is none of the classes {', '.join(classes)}"
        raise InvalidInput("UNKNOWN_CLASS", message, field=field, sample_id=request.sample_id, label=result.class_name)
    if result.label >= len(classes):
        message = f"class {result.label} of sample {request.sample_id} lies outside the classes 0 to {len(classes) - 1}"
        raise InvalidInput("UNKNOWN_CLASS", message, field=field, sample_id=request.sample_id, label=result.label)
    return result.label


def _the_only_one(
    desk: Desk, request: RequestId, result: LabelResult, source: str, label: int, field: str
) -> Event | None:
    """Where one annotator is asked, what they say holds. The first one's word does; a later one corrects it openly,
    by a revision above 0 with another answer."""
    sample_id = request.sample_id
    before = desk.heard.get(sample_id, {}).get(result.annotator)
    if before and result.revision <= before.answer_revision:
        return None
    _check_not_taken_back(desk, sample_id, field)
    standing = desk.answers.standing.get(sample_id)
    holds = standing is not None and not isinstance(standing, LabelWithdrawn)
    if holds and result.revision == 0:
        return None
    _check_open(desk, sample_id, field)
    if standing and holds and result.withdrawn and not result.overrules:
        _check_own(standing, result, field)
    event = Event(run_id=desk.run_id, round=request.round)
    given: dict[str, Any] = {
        "sample_id": sample_id,
        "source": source,
        "annotator": result.annotator,
        "revision": desk.answers.next_revision(sample_id),
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


def _check_open(desk: Desk, sample_id: int, field: str) -> None:
    """What is new is for a run that goes on."""
    if desk.over:
        message = f"run {desk.run_id!r} has ended: nothing new is said of its sample {sample_id} any more"
        raise WrongState("RUN_OVER", message, field=field, run_id=desk.run_id)


def _check_own(standing: Outcome, result: LabelResult, field: str) -> None:
    if standing.annotator != result.annotator:
        message = (
            f"{result.annotator!r} cannot withdraw what {standing.annotator!r} said of sample {standing.sample_id}: "
            "send another label, or set overrules"
        )
        raise WrongState("NOT_THEIRS", message, field=field, sample_id=standing.sample_id)


def _check_not_taken_back(desk: Desk, sample_id: int, field: str) -> None:
    standing = desk.answers.standing.get(sample_id)
    if isinstance(standing, SampleSkipped) and (why := _TAKEN_BACK.get(standing.kind)):
        message = f"sample {sample_id} of run {desk.run_id!r} is no longer asked for: {why}"
        raise WrongState("TOO_LATE", message, field=field, sample_id=sample_id)


def _one_of_several(
    desk: Desk, request: RequestId, result: LabelResult, source: str, label: int, field: str
) -> Event | None:
    """An answer takes its annotator's own slot, or the one asked for, or the first that nobody has."""
    sample_id, slots = request.sample_id, desk.given.get(request.sample_id, {})
    if not result.annotator and desk.annotators > 1:
        message = f"several annotators are asked for sample {sample_id}: say which of them answers"
        raise InvalidInput("NO_ANNOTATOR", message, field=field, sample_id=sample_id)
    own = next((slot for slot, given in slots.items() if given.annotator == result.annotator), None)
    if own is not None and result.revision <= slots[own].revision:
        return None
    _check_not_taken_back(desk, sample_id, field)
    _check_open(desk, sample_id, field)
    if own is None:
        if sample_id not in desk.gold and sample_id not in desk.open:
            return None  # all have answered that were asked
        own = _slot(desk, request, slots)
    given = AnswerGiven(
        sample_id=sample_id,
        slot=own,
        revision=result.revision,
        source=source,
        annotator=result.annotator,
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
    return Event(run_id=desk.run_id, round=request.round, answer_given=given)


def _slot(desk: Desk, request: RequestId, slots: Mapping[int, AnswerGiven]) -> int:
    """The one asked for, if nobody has it, else the first free one."""
    if request.slot is not None and request.slot not in slots and request.slot < desk.annotators_max:
        return request.slot
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)
