"""Measure each annotator's quality against gold samples and against the current labels. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from labelloop.domain.statistics import exact_interval

from oracle_svc.domain.consensus import Skip


@dataclass(frozen=True)
class Judgement:
    """An annotator's current result for a sample.

    Attributes:
        outcome: The class, or the skip.
        time_spent_s: Time taken in seconds; 0 if unknown.
        gold_label: The known class of a gold sample, else None.
        label: The sample's current label if other annotators contributed to it, else None.
    """

    annotator: str
    outcome: int | Skip
    time_spent_s: float
    gold_label: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class AnnotatorQuality:
    """One annotator's quality. Counts are as in ``AnnotatorRecord``.

    Attributes:
        gold_low: Lower end of the 95 per cent confidence interval of the share of gold samples labelled correctly.
        gold_high: Upper end of that interval.
        time_spent_s: Median in seconds; 0 if unknown.
    """

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
    """Compute one record per annotator, sorted by name."""
    by_annotator: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_annotator.setdefault(judgement.annotator, []).append(judgement)
    return [_quality(annotator, each) for annotator, each in sorted(by_annotator.items())]


def _quality(annotator: str, judgements: Sequence[Judgement]) -> AnnotatorQuality:
    labels = [each for each in judgements if not isinstance(each.outcome, Skip)]
    gold = [each.outcome == each.gold_label for each in labels if each.gold_label is not None]
    compared = [each.outcome == each.label for each in labels if each.label is not None]
    times_s = [each.time_spent_s for each in judgements if each.time_spent_s]
    low, high = exact_interval(sum(gold), len(gold)) if gold else (0.0, 0.0)
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
