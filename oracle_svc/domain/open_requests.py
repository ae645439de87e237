"""List a run's open requests to annotators and annotation tools, and build their messages. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from labelloop.domain.ids import LeaseKey, RequestId
from labelloop.domain.limits import ANNOTATORS_MAX
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.domain.labeling_state import LabelingState

_GOLD_EVERY = 10  # other requests per request for a gold sample
_GOLD_ANSWERS_MAX = 100  # of one gold sample


@dataclass(frozen=True)
class OpenRequest:
    """A request for one annotator, or for all annotators of a sample.

    Attributes:
        slot: The annotator's slot; None for all annotators of the sample.
        annotators: How many annotators are asked for the sample.
        revision: Above 0 if a sample's only annotator is asked again because their result was withdrawn.
    """

    run_id: str
    round: int
    sample_id: int
    slot: int | None
    annotators: int
    revision: int = 0

    @property
    def request_id(self) -> str:
        return str(self.lease.request)

    @property
    def lease(self) -> LeaseKey:
        """Key of the request's lease."""
        request = RequestId(self.run_id, self.round, self.sample_id, self.slot)
        return LeaseKey(request, self.annotators if self.slot is None else 0, self.revision)


def for_annotator(labeling: LabelingState, annotator: str) -> Iterator[OpenRequest]:
    """Yield requests for ``annotator`` by priority.

    A gold sample precedes them for a new annotator, and again after every ten results for other samples.
    """
    names = labeling.names_of(annotator)
    answers = [given for slots in labeling.given.values() for given in slots.values() if given.annotator in names]
    gold = sum(given.sample_id in labeling.gold for given in answers)
    others = len(answers) - gold + sum(not names.isdisjoint(words) for words in labeling.heard.values())
    open_ = (ask for ask in _slots(labeling) if not _spoke(labeling, ask.sample_id, annotator))
    if gold * _GOLD_EVERY <= others and labeling.open:
        yield from islice((ask for ask in _gold(labeling, 1) if not _spoke(labeling, ask.sample_id, annotator)), 1)
    yield from open_


def fair_share(labeling: LabelingState, people: Collection[str]) -> int:
    """Return how many of a run's open requests each of ``people`` may hold so that all have some, rounded up."""
    return -(-sum(_lacking(labeling, sample_id) for sample_id in labeling.open) // len(people))


def next_revision(labeling: LabelingState, sample_id: int, annotator: str) -> int:
    """Return the revision of the next result of ``annotator`` for an open sample."""
    before = labeling.heard_from(sample_id, annotator)
    return before.answer_revision + 1 if before else 0


def revision_for_anybody(labeling: LabelingState, sample_id: int) -> int:
    """Return the revision of an open sample's next result from any annotator: higher than all withdrawn ones."""
    given = [each.revision for each in labeling.given.get(sample_id, {}).values() if each.withdrawn]
    heard = [each.answer_revision for each in labeling.heard.get(sample_id, {}).values() if labeling.annotators == 1]
    return max((*given, *heard), default=-1) + 1


def for_tool(labeling: LabelingState, *, whole_samples: bool) -> Iterator[OpenRequest]:
    """Yield the requests for a tool, preceded by those for gold samples.

    There is one gold sample, and one more for every ten samples requested. A tool that shares samples out among its
    annotators gets each for one annotator more than have answered it. Any other gets a request for as many annotators
    as are asked for other samples, or as have answered anything in the run if these are more: nobody can answer a
    second one.

    Args:
        whole_samples: Yield one request per sample instead of one per slot.
    """
    if not labeling.open:
        return
    wanted = set(islice(labeling.gold, 1 + len(labeling.answers.rounds) // _GOLD_EVERY))
    gold = _gold(labeling, int(whole_samples))
    asks = [*(ask for ask in gold if ask.sample_id in wanted), *_slots(labeling)]
    if not whole_samples:
        yield from asks
        return
    for sample_id, lacking in Counter(ask.sample_id for ask in asks).items():
        annotators = len(labeling.standing_answers(sample_id)) + lacking
        yield OpenRequest(labeling.run_id, labeling.answers.rounds.get(sample_id, 0), sample_id, None, annotators)


def is_asked(labeling: LabelingState, lease: LeaseKey) -> bool:
    """Return whether the request of a lease is still open."""
    sample_id, slot = lease.request.sample_id, lease.request.slot
    open_ = sample_id in labeling.open or (sample_id in labeling.gold and bool(labeling.open))
    current = lease.revision == (0 if slot is None else _slot_revision(labeling, sample_id))
    return open_ and current and slot not in labeling.given.get(sample_id, {})


def is_answered_by(labeling: LabelingState, lease: LeaseKey, source: str) -> bool:
    """Return whether ``source`` gave the result of the slot whose lease this is."""
    sample_id, slot = lease.request.sample_id, lease.request.slot
    if slot is None:
        return False
    if given := labeling.given.get(sample_id, {}).get(slot):
        return given.source == source
    if labeling.annotators > 1:
        return False
    heard = labeling.heard.get(sample_id, {}).values()
    return any(each.source == source and each.answer_revision >= lease.revision for each in heard)


def in_conflict(labeling: LabelingState, lease: LeaseKey, held: Iterable[LeaseKey]) -> list[LeaseKey]:
    """Return those of the leases ``held`` that conflict with ``lease`` and whose requests are still open.

    Whoever holds the lease of a request that was answered does not work on it any more.
    """
    return [other for other in held if lease.conflicts_with(other) and is_asked(labeling, other)]


def slot_lease(labeling: LabelingState, request: RequestId) -> LeaseKey:
    """Return the key of the lease of a request for one slot, with the revision that is asked for now."""
    return LeaseKey(request, revision=_slot_revision(labeling, request.sample_id))


def _slot_revision(labeling: LabelingState, sample_id: int) -> int:
    """Return the revision of a sample's next result if one annotator is asked for it; 0 otherwise."""
    if labeling.annotators > 1 or sample_id in labeling.gold:
        return 0
    return revision_for_anybody(labeling, sample_id)


def _spoke(labeling: LabelingState, sample_id: int, annotator: str) -> bool:
    """Return whether one of the sample's slots holds a result of ``annotator``."""
    return labeling.slot_of(sample_id, annotator) is not None


def _slots(labeling: LabelingState) -> Iterator[OpenRequest]:
    """Yield one request for each annotator that an open sample still needs."""
    for sample_id in labeling.open:
        round_ = labeling.answers.rounds[sample_id]
        answered, lacking = len(labeling.standing_answers(sample_id)), _lacking(labeling, sample_id)
        for slot in _free_slots(labeling, sample_id, lacking):
            revision = _slot_revision(labeling, sample_id)
            yield OpenRequest(labeling.run_id, round_, sample_id, slot, answered + lacking, revision)


def _lacking(labeling: LabelingState, sample_id: int) -> int:
    """Return how many annotators an open sample still needs."""
    wanted = max(labeling.annotators, labeling.disputed.get(sample_id, 0))
    return max(0, wanted - len(labeling.standing_answers(sample_id)))


def _gold(labeling: LabelingState, least: int) -> Iterator[OpenRequest]:
    """Yield requests for gold samples, at least ``least`` for each."""
    wanted = min(max(labeling.annotators, len(labeling.known)), ANNOTATORS_MAX)
    for sample_id in labeling.gold:
        answered = len(labeling.standing_answers(sample_id))
        if answered >= _GOLD_ANSWERS_MAX:
            continue
        for slot in _free_slots(labeling, sample_id, max(least, wanted - answered)):
            yield OpenRequest(labeling.run_id, 0, sample_id, slot, labeling.annotators)


def _free_slots(labeling: LabelingState, sample_id: int, wanted: int) -> Iterator[int]:
    slots = labeling.given.get(sample_id, {})
    return islice((slot for slot in count() if slot not in slots), wanted)


def request_of(labeling: LabelingState, ask: OpenRequest, media_type: str, sha256: str) -> LabelRequest:
    """Build the message for annotators and tools, without the sample itself."""
    assert labeling.pool is not None, "what is asked for lies in a pool"
    request = LabelRequest(
        request_id=ask.request_id,
        run_id=ask.run_id,
        round=ask.round,
        sample_id=ask.sample_id,
        slot=ask.slot or 0,
        media_type=media_type,
        sha256=sha256,
        classes=labeling.pool.classes,
        priority=labeling.places.get(ask.sample_id, 0),
        annotator_count=ask.annotators,
    )
    prediction = labeling.predictions.get(ask.sample_id)
    if prediction and not labeling.spec.queue.hide_predictions:
        request.prediction.CopyFrom(prediction)
    if labeling.deadline:
        request.deadline.FromDatetime(labeling.deadline)
    return request
