"""Stand-in until the real one is merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oracle_svc.agreement import Skip


@dataclass(frozen=True)
class Judgement:
    annotator: str
    sample_id: int
    outcome: int | Skip
    time_spent_s: float
    gold_label: int | None
    label: int | None


@dataclass(frozen=True)
class AnnotatorQuality:
    annotator: str
    answers: int = 0
    skips: int = 0
    compared: int = 0
    agreed: int = 0
    gold: int = 0
    gold_right: int = 0
    gold_low: float = 0
    gold_high: float = 0
    time_spent_s: float = 0


def records(judgements: Sequence[Judgement]) -> list[AnnotatorQuality]:
    return []
