"""Combine the results of several annotators into one label. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import SkipKind

from oracle_svc.domain.dawid_skene import class_posteriors

SURE = 0.8
"""Least posterior at which a label is accepted. If annotators are right four times in five, two who differ do not reach
it, but two out of three who agree do."""

_PAIR = 2  # annotators

KNOWN_AFTER = 20
"""Number of class results from which on an annotator is weighted. With fewer, error rates are so uncertain that one
annotator who errs often may outweigh two who do not."""


@dataclass(frozen=True)
class Label:
    """An agreed label.

    Attributes:
        label: The class.
        answer_count: Annotation results that it is based on.
        agreement: The share of these results that agree, or the posterior, in [0, 1].
    """

    label: int
    answer_count: int
    agreement: float


@dataclass(frozen=True)
class Skip:
    kind: SkipKind.ValueType


@dataclass(frozen=True)
class Undecided:
    """No agreement yet.

    Attributes:
        more: Number of further annotators to ask now.
    """

    more: int


Outcome = Label | Skip | Undecided


@dataclass(frozen=True)
class Vote:
    """One annotator's result.

    Attributes:
        outcome: A class, or a skip with its kind.
    """

    annotator: str
    outcome: int | Skip


def decide(
    votes: Sequence[Vote],
    *,
    wanted: int,
    most: int,
    posterior: Mapping[int, float] | None = None,
    version: int = 0,
) -> Outcome:
    """Decide the outcome of a sample by majority, or by posterior if one is given.

    After ``wanted`` votes, an outcome with more than half of the votes is accepted. If there is none, one more
    annotator is asked, up to ``most``; after that the sample is skipped as disputed.

    Args:
        votes: One vote per annotator, in any order.
        wanted: Number of annotators to ask first.
        most: Largest number of annotators to ask.
        posterior: Probability by class. If given, and the votes are not unanimous, the most probable class is chosen
            instead of the most frequent one, and accepted if its probability is at least ``SURE``.
        version: Version of the rules of the run. From 1 on, two annotators who contradict each other never settle a
            sample by themselves, only a class that somebody gave is accepted, and a posterior is heeded even if the
            votes are unanimous.
    """
    count = len(votes)
    if count < wanted:
        return Undecided(wanted - count)
    if version:
        return _decided(votes, posterior) or (Undecided(1) if count < most else Skip(SkipKind.SKIP_KIND_DISPUTED))
    said = Counter(vote.outcome for vote in votes)
    outcome, share = max(said.items(), key=lambda item: (item[1], not isinstance(item[0], Skip)))
    half = 2 * share > count
    if half and isinstance(outcome, Skip):
        return outcome
    if posterior and share < count:
        label = max(posterior, key=lambda each: (posterior[each], -each))
        if posterior[label] >= SURE:
            return Label(label, count, posterior[label])
    elif half and not isinstance(outcome, Skip):
        return Label(outcome, count, share / count)
    return Undecided(1) if count < most else Skip(SkipKind.SKIP_KIND_DISPUTED)


def _decided(votes: Sequence[Vote], posterior: Mapping[int, float] | None) -> Label | Skip | None:
    """Return the outcome on which votes agree by the rules of version 1; None if they do not."""
    count, said = len(votes), Counter(vote.outcome for vote in votes)
    outcome, share = max(said.items(), key=lambda item: (item[1], not isinstance(item[0], Skip)))
    if isinstance(outcome, Skip):
        return outcome if 2 * share > count else None
    if not posterior:
        return Label(outcome, count, share / count) if 2 * share > count else None
    label = max(posterior, key=lambda each: (posterior[each], -each))
    settled = count > _PAIR or share == count
    return Label(label, count, posterior[label]) if settled and label in said and posterior[label] >= SURE else None


def doubted(votes: Sequence[Vote], gold: Mapping[str, tuple[int, int]]) -> bool:
    """Return whether a posterior is to be heeded: votes differ, or an annotator is mostly wrong about gold samples.

    Two votes that differ need none, because a third annotator is asked in any case.

    Args:
        gold: How many of their results for gold samples are right, and how many there are, by annotator.
    """
    records = [gold.get(vote.annotator, (0, 0)) for vote in votes]
    return len(votes) > _PAIR if disputed(votes) else any(2 * right < count for right, count in records)


def disputed(votes: Sequence[Vote]) -> bool:
    """Return whether the votes differ, so that it matters which annotator gave which."""
    return len({vote.outcome for vote in votes}) > 1


def posteriors(
    votes: Mapping[int, Sequence[Vote]], truth: Mapping[int, int], *, led: bool = False
) -> dict[int, dict[int, float]]:
    """Return class probabilities by sample, for samples whose annotators all have at least ``KNOWN_AFTER`` results.

    They are estimated from all votes by the model of Dawid and Skene, ``led`` as in :func:`class_posteriors`; ``truth``
    holds the classes of gold samples. Samples with only skips are left out.
    """
    answers = [
        (sample_id, vote.annotator, vote.outcome)
        for sample_id, each in votes.items()
        for vote in each
        if not isinstance(vote.outcome, Skip)
    ]
    counts = Counter(annotator for _, annotator, _ in answers)
    strangers = {sample_id for sample_id, annotator, _ in answers if counts[annotator] < KNOWN_AFTER}
    if strangers.issuperset(sample_id for sample_id, _, _ in answers):
        return {}
    found = class_posteriors(answers, truth, led=led)
    return {sample_id: each for sample_id, each in found.items() if sample_id not in strangers}
