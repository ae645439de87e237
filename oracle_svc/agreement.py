"""How the answers of several annotators become one label. Pure."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import SkipKind
from labelloop.wire.errors import InvalidInput

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


def posteriors(votes: Mapping[int, Sequence[Vote]]) -> dict[int, dict[int, float]]:
    """How probable each class is for each sample that got one only from annotators who are known by now: Dawid and
    Skene 1979 over all answers, by crowd-kit. InvalidInput where that is not installed."""
    try:
        from crowdkit.aggregation import DawidSkene  # costs two seconds, and few runs need it
        from pandas import DataFrame
    except ImportError as error:
        message = "the rule dawid-skene needs crowd-kit: pip install 'labelloop[crowd]', or take the rule majority"
        raise InvalidInput("NO_CROWD_KIT", message, field="spec.queue.agreement") from error
    rows = sorted(
        (sample_id, vote.annotator, vote.outcome)
        for sample_id, each in votes.items()
        for vote in each
        if not isinstance(vote.outcome, Skip)
    )
    answers = Counter(annotator for _, annotator, _ in rows)
    strangers = {sample_id for sample_id, annotator, _ in rows if answers[annotator] < KNOWN_AFTER}
    if strangers.issuperset(sample_id for sample_id, _, _ in rows):
        return {}
    with warnings.catch_warnings():  # crowd-kit 1.4 uses what pandas 3.1 is about to give up
        warnings.simplefilter("ignore")
        table = DawidSkene(n_iter=100, tol=1e-5).fit(DataFrame(rows, columns=["task", "worker", "label"])).probas_
    assert table is not None, "it was fitted"
    return {
        int(task): {int(label): float(p) for label, p in row.items()}
        for task, row in table.iterrows()
        if task not in strangers
    }
