"""How well each annotator labels, by samples whose class is known and by the labels that hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from labelloop.wire.intervals import wilson_interval

from oracle_svc.agreement import Skip


@dataclass(frozen=True)
class Judgement:
    """What an annotator says of a sample now. ``gold_label`` is its class where that is known, ``label`` the one that
    holds where others had a say in it; ``time_spent_s`` is 0 where nobody knows."""

    annotator: str
    outcome: int | Skip
    time_spent_s: float
    gold_label: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class AnnotatorQuality:
    """Counts as in ``AnnotatorRecord``; ``gold_low`` and ``gold_high`` bound the share of gold samples labelled
    rightly with 95 per cent confidence."""

    annotator: str
    answers: int
    skips: int
    compared: int
    agreed: int
    gold: int
    gold_right: int
    gold_low: float
    gold_high: float
    time_spent_s: float


def records(judgements: Iterable[Judgement]) -> list[AnnotatorQuality]:
    """One for each annotator, by name."""
    by_annotator: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_annotator.setdefault(judgement.annotator, []).append(judgement)
    return [_quality(annotator, each) for annotator, each in sorted(by_annotator.items())]


def _quality(annotator: str, judgements: Sequence[Judgement]) -> AnnotatorQuality:
    labels = [each for each in judgements if not isinstance(each.outcome, Skip)]
    gold = [each.outcome == each.gold_label for each in labels if each.gold_label is not None]
    compared = [each.outcome == each.label for each in labels if each.label is not None]
    times_s = [each.time_spent_s for each in judgements if each.time_spent_s]
    low, high = wilson_interval(sum(gold), len(gold)) if gold else (0.0, 0.0)
    return AnnotatorQuality(
        annotator=annotator,
        answers=len(judgements),
        skips=len(judgements) - len(labels),
        compared=len(compared),
        agreed=sum(compared),
        gold=len(gold),
        gold_right=sum(gold),
        gold_low=low,
        gold_high=high,
        time_spent_s=median(times_s) if times_s else 0.0,
    )
