"""Estimate class probabilities from the results that the log held at a given place. Pure functions.

The decision about a sample rests on the results up to its own newest one. It is thus the same on every replica, and
after every restart, however many results have followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from labelloop.domain.annotators import Annotators
from labelloop.events.v1.events_pb2 import AnswerGiven

from oracle_svc.domain.consensus import Skip, Vote, doubted, posteriors

_Slots = dict[int, dict[int, AnswerGiven]]


def standing(slots: Mapping[int, AnswerGiven], people: Annotators) -> list[AnswerGiven]:
    """Return several annotators' current results for a sample in slot order, without withdrawn ones.

    Of a person with several names it is one result: that of the highest revision, the first recorded of equal ones,
    which is the one that counts if the names are declared to be one person's before they answer.

    Args:
        slots: The newest result in each slot, the one recorded last being last.
        people: Who is who.
    """
    counts: dict[str, int] = {}
    for slot, given in slots.items():
        if people.has_several_names(given.annotator):
            before = counts.setdefault(people.identity_of(given.annotator), slot)
            if slots[before].revision < given.revision:
                counts[people.identity_of(given.annotator)] = slot
    return [
        slots[slot]
        for slot in sorted(slots)
        if not slots[slot].withdrawn and counts.get(people.identity_of(slots[slot].annotator), slot) == slot
    ]


def votes_of(answers: Iterable[AnswerGiven], people: Annotators) -> list[Vote]:
    """Return the votes in a sample's results, without withdrawn ones."""
    return [
        Vote(people.identity_of(answer.annotator), answer.label if answer.HasField("label") else Skip(answer.skip))
        for answer in answers
        if not answer.withdrawn
    ]


def posteriors_at(
    history: Sequence[AnswerGiven],
    answered: Mapping[int, int],
    gold: Mapping[int, int],
    wanted: int,
    people: Annotators,
) -> dict[int, dict[int, float]]:
    """Return class probabilities of samples whose votes are doubted, each from the results up to its newest one.

    Args:
        history: All results of the run, in the order of the log.
        answered: Running number, from 1, of the newest result to heed, by sample.
        gold: The class of each gold sample.
        wanted: Number of annotators to ask first; a sample with fewer votes is not decided.
        people: Who is who.
    """
    found: dict[int, dict[int, float]] = {}
    slots: _Slots = {}
    begin = 0
    for sample_id, end in sorted(answered.items(), key=lambda item: item[1]):
        for given in history[begin:end]:
            of_sample = slots.setdefault(given.sample_id, {})
            of_sample.pop(given.slot, None)
            of_sample[given.slot] = given
        begin = end
        own = _votes(slots, sample_id, people)
        if len(own) >= wanted and doubted(own, _gold_records(slots, gold, people)):
            votes = {each: _votes(slots, each, people) for each in slots}
            found[sample_id] = posteriors(votes, gold, led=True).get(sample_id, {})
    return found


def _votes(slots: _Slots, sample_id: int, people: Annotators) -> list[Vote]:
    return votes_of(standing(slots.get(sample_id, {}), people), people)


def _gold_records(slots: _Slots, gold: Mapping[int, int], people: Annotators) -> dict[str, tuple[int, int]]:
    """Return how many of the classes given to gold samples are right, and how many there are, by annotator."""
    records: dict[str, tuple[int, int]] = {}
    for sample_id, label in gold.items():
        for vote in _votes(slots, sample_id, people):
            if not isinstance(vote.outcome, Skip):
                right, count = records.get(vote.annotator, (0, 0))
                records[vote.annotator] = (right + (vote.outcome == label), count + 1)
    return records
