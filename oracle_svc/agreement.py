"""How the answers of several annotators become one label. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import SkipKind

from oracle_svc.dawid_skene import class_posteriors

SURE = 0.8
"""A posterior from which on a label holds. Of two annotators who are right four times in five and differ, neither comes
to it; of three who are and of whom two agree, they do."""

KNOWN_AFTER = 20
"""Answers of an annotator, in classes, behind which they are weighed. Of fewer, so little is known of who errs how that
one who errs often may well be believed against two who do not."""


@dataclass(frozen=True)
class Label:
    """``agreement`` is the share of the answers, or the posterior, in [0, 1]."""

    label: int
    answer_count: int
    agreement: float


@dataclass(frozen=True)
class Skip:
    kind: SkipKind.ValueType


@dataclass(frozen=True)
class Undecided:
    """``more`` annotators are to be asked now."""

    more: int


Outcome = Label | Skip | Undecided


@dataclass(frozen=True)
class Vote:
    """``outcome`` is a class, or why there is none."""

    annotator: str
    outcome: int | Skip


def decide(votes: Sequence[Vote], *, wanted: int, most: int, posterior: Mapping[int, float] | None = None) -> Outcome:
    """What ``votes`` come to, one of each annotator, in whatever order.

    ``wanted`` annotators are asked first. What more than half of them say holds; where nothing is said by so many, one
    more is asked, up to ``most``, behind whom the sample is left out as disputed. Where a ``posterior`` over classes is
    given, it decides between classes in place of the count.
    """
    count = len(votes)
    if count < wanted:
        return Undecided(wanted - count)
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


def disputed(votes: Sequence[Vote]) -> bool:
    """Whether they differ, so that it matters who said what."""
    return len({vote.outcome for vote in votes}) > 1


def posteriors(votes: Mapping[int, Sequence[Vote]], truth: Mapping[int, int]) -> dict[int, dict[int, float]]:
    """Return how probable each class is, by sample, for samples whose annotators are all known by now.

    Estimated from all votes by the model of Dawid and Skene; ``truth`` is the class of gold samples. Samples to which
    nobody gave a class are left out.
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
    found = class_posteriors(answers, truth)
    return {sample_id: each for sample_id, each in found.items() if sample_id not in strangers}
