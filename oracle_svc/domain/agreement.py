"""Measure how far annotators agree, beyond what chance gives. Pure functions.

Krippendorff's alpha compares observed disagreement with that expected by chance, for any number of annotators and with
missing results. Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", University of Pennsylvania,
2011; the form for nominal data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHARED_MIN = 10
"""Samples with results of several annotators from which on alpha is stated. With fewer it tells little."""


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree about the classes of samples.

    Attributes:
        shared: Number of samples that at least two annotators gave a class.
        pairs: Share of pairs of results for a sample that agree, in [0, 1]; a sample weighs by its number of results.
            None without a shared sample.
        alpha: Krippendorff's alpha, at most 1; 0 is what chance gives. None where too few samples are shared, or where
            all results name one class, to tell.
    """

    shared: int
    pairs: float | None
    alpha: float | None


def agreement_of(samples: Iterable[Sequence[int]]) -> Agreement:
    """Return the agreement of annotators.

    Args:
        samples: The classes that annotators gave to each sample, one for each annotator who gave one.
    """
    shared = [Counter(labels) for labels in samples if len(labels) > 1]
    if not shared:
        return Agreement(0, None, None)
    totals: Counter[int] = Counter()
    agreeing = 0.0
    for counts in shared:
        totals.update(counts)
        agreeing += sum(count * (count - 1) for count in counts.values()) / (counts.total() - 1)
    values = totals.total()
    by_chance = sum(count * (count - 1) for count in totals.values()) / (values - 1)
    tells = len(shared) >= SHARED_MIN and len(totals) > 1
    alpha = 1 - (values - agreeing) / (values - by_chance) if tells else None
    return Agreement(len(shared), agreeing / values, alpha)
