"""Which requests a run has for people just now, and what each of them says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice

from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.desk import Desk
from oracle_svc.taking import RequestId

_GOLD_EVERY = 10  # requests to one of a gold sample


@dataclass(frozen=True)
class Ask:
    """One annotator wanted for one sample; where ``slot`` is None, all of them. ``revision`` is above 0 where a tool is
    to ask the only annotator once more, for what they said was withdrawn."""

    run_id: str
    round: int
    sample_id: int
    slot: int | None
    annotators: int
    revision: int = 0

    @property
    def request_id(self) -> str:
        return str(RequestId(self.run_id, self.round, self.sample_id, self.slot))

    @property
    def lease(self) -> str:
        """Under which name it is leased. A tool that is to ask more people than before is asked anew, and so is one of
        message queues whose answer was withdrawn: it has done with the request."""
        slot = f"of{self.annotators}" if self.slot is None else str(self.slot)
        again = f"-{self.revision}" if self.revision else ""
        return f"{self.run_id}.{self.round}.{self.sample_id}.{slot}{again}"


def for_annotator(desk: Desk, annotator: str) -> Iterator[Ask]:
    """What ``annotator`` may be asked, most wanted first; at times a gold sample, the first of them at once."""
    answers = [given for slots in desk.given.values() for given in slots.values() if given.annotator == annotator]
    gold = sum(given.sample_id in desk.gold for given in answers)
    others = len(answers) - gold + sum(annotator in words for words in desk.heard.values())
    open_ = (ask for ask in _slots(desk) if not _spoke(desk, ask.sample_id, annotator))
    if gold * _GOLD_EVERY <= others and desk.open:
        yield from islice((ask for ask in _gold(desk) if not _spoke(desk, ask.sample_id, annotator)), 1)
    yield from open_


def next_revision(desk: Desk, sample_id: int, annotator: str) -> int:
    """What the next word of ``annotator`` on an open sample is numbered."""
    before = desk.heard.get(sample_id, {}).get(annotator)
    return before.answer_revision + 1 if before else 0


def revision_for_anybody(desk: Desk, sample_id: int) -> int:
    """What the next word on an open sample is numbered, whoever says it: above what was withdrawn."""
    given = [each.revision for each in desk.given.get(sample_id, {}).values() if each.withdrawn]
    heard = [each.answer_revision for each in desk.heard.get(sample_id, {}).values() if desk.annotators == 1]
    return max((*given, *heard), default=-1) + 1


def for_everybody(desk: Desk) -> Iterator[Ask]:
    """All that is open, in every form in which it may be leased."""
    yield from _slots(desk)
    yield from (numbered(desk, ask) for ask in _slots(desk))
    yield from for_tool(desk, whole_samples=True)


def for_tool(desk: Desk, *, whole_samples: bool) -> Iterator[Ask]:
    """What a tool is to ask; one gold sample for every ten others, to all annotators."""
    if not desk.open:
        return
    gold = islice(dict.fromkeys(ask.sample_id for ask in _gold(desk)), 1 + len(desk.answers.rounds) // _GOLD_EVERY)
    wanted = set(gold)
    asks = [ask for ask in _gold(desk) if ask.sample_id in wanted] + [numbered(desk, ask) for ask in _slots(desk)]
    if not whole_samples:
        yield from asks
        return
    for sample_id, lacking in Counter(ask.sample_id for ask in asks).items():
        annotators = len(desk.standing_answers(sample_id)) + lacking
        yield Ask(desk.run_id, desk.answers.rounds.get(sample_id, 0), sample_id, None, annotators)


def is_asked(desk: Desk, ask: Ask) -> bool:
    """Whether what was asked for is asked for still."""
    open_ = ask.sample_id in desk.open or (ask.sample_id in desk.gold and bool(desk.open))
    return open_ and ask.slot not in desk.given.get(ask.sample_id, {}) and numbered(desk, ask) == ask


def numbered(desk: Desk, ask: Ask) -> Ask:
    """As a tool is asked."""
    if desk.annotators > 1 or ask.slot is None or ask.sample_id in desk.gold:
        return ask
    return replace(ask, revision=revision_for_anybody(desk, ask.sample_id))


def _spoke(desk: Desk, sample_id: int, annotator: str) -> bool:
    return any(given.annotator == annotator for given in desk.given.get(sample_id, {}).values())


def _slots(desk: Desk) -> Iterator[Ask]:
    """One for each annotator whom an open sample still lacks."""
    for sample_id in desk.open:
        round_ = desk.answers.rounds[sample_id]
        answered = len(desk.standing_answers(sample_id))
        lacking = max(0, max(desk.annotators, desk.disputed.get(sample_id, 0)) - answered)
        for slot in _free_slots(desk, sample_id, lacking):
            yield Ask(desk.run_id, round_, sample_id, slot, answered + lacking)


def _gold(desk: Desk) -> Iterator[Ask]:
    for sample_id in desk.gold:
        answered = len(desk.standing_answers(sample_id))
        for slot in _free_slots(desk, sample_id, max(1, desk.annotators - answered)):
            yield Ask(desk.run_id, 0, sample_id, slot, desk.annotators)


def _free_slots(desk: Desk, sample_id: int, wanted: int) -> Iterator[int]:
    slots = desk.given.get(sample_id, {})
    return islice((slot for slot in count() if slot not in slots), wanted)


def request_of(desk: Desk, ask: Ask, media_type: str, sha256: str) -> LabelRequest:
    """What annotators and tools are sent, without the sample itself."""
    assert desk.pool is not None, "what is asked for lies in a pool"
    request = LabelRequest(
        request_id=ask.request_id,
        run_id=ask.run_id,
        round=ask.round,
        sample_id=ask.sample_id,
        slot=ask.slot or 0,
        media_type=media_type,
        sha256=sha256,
        classes=desk.pool.classes,
        priority=desk.places.get(ask.sample_id, 0),
        annotator_count=ask.annotators,
    )
    prediction = desk.predictions.get(ask.sample_id)
    if prediction and not desk.spec.queue.hide_predictions:
        request.prediction.CopyFrom(prediction)
    if desk.deadline:
        request.deadline.FromDatetime(desk.deadline)
    return request
