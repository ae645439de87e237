"""Estimate class probabilities from the results that the log held at a given place. Pure functions.

The decision about a sample rests on the results up to its own newest one. It is thus the same on every replica, and
after every restart, however many results have followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from labelloop.events.v1.events_pb2 import AnswerGiven

from oracle_svc.domain.consensus import Skip, Vote, doubted, posteriors

_Slots = dict[int, dict[int, AnswerGiven]]


def votes_of(answers: Iterable[AnswerGiven]) -> list[Vote]:
    """Return the votes in a sample's results, without withdrawn ones."""
    return [
        Vote(answer.annotator, answer.label if answer.HasField("label") else Skip(answer.skip))
        for answer in answers
        if not answer.withdrawn
    ]


def posteriors_at(
    history: Sequence[AnswerGiven], answered: Mapping[int, int], gold: Mapping[int, int], wanted: int
) -> dict[int, dict[int, float]]:
    """Return class probabilities of samples whose votes are doubted, each from the results up to its newest one.

    Args:
        history: All results of the run, in the order of the log.
        answered: Running number, from 1, of the newest result to heed, by sample.
        gold: The class of each gold sample.
        wanted: Number of annotators to ask first; a sample with fewer votes is not decided.
    """
    found: dict[int, dict[int, float]] = {}
    slots: _Slots = {}
    begin = 0
    for sample_id, end in sorted(answered.items(), key=lambda item: item[1]):
        for given in history[begin:end]:
            slots.setdefault(given.sample_id, {})[given.slot] = given
        begin = end
        own = _votes(slots, sample_id)
        if len(own) >= wanted and doubted(own, _gold_records(slots, gold)):
            votes = {each: _votes(slots, each) for each in slots}
            found[sample_id] = posteriors(votes, gold, led=True).get(sample_id, {})
    return found


def _votes(slots: _Slots, sample_id: int) -> list[Vote]:
    given = slots.get(sample_id, {})
    return votes_of(given[slot] for slot in sorted(given))


def _gold_records(slots: _Slots, gold: Mapping[int, int]) -> dict[str, tuple[int, int]]:
    """Return how many of the classes given to gold samples are right, and how many there are, by annotator."""
    records: dict[str, tuple[int, int]] = {}
    for sample_id, label in gold.items():
        for vote in _votes(slots, sample_id):
            if not isinstance(vote.outcome, Skip):
                right, count = records.get(vote.annotator, (0, 0))
                records[vote.annotator] = (right + (vote.outcome == label), count + 1)
    return records
