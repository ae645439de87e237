"""Explain why the label of each sample of a run was requested. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labelloop.events.v1.events_pb2 import Purpose, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop.trainer.v1.trainer_pb2 import LabelRecord

from labelloop_cli.run_options import word

_PLACED = frozenset(
    {
        Strategy.STRATEGY_CLUSTERED_MARGIN,
        Strategy.STRATEGY_BADGE,
        Strategy.STRATEGY_TYPICLUST,
        Strategy.STRATEGY_K_MEANS,
    }
)
_DRAWN = frozenset({Strategy.STRATEGY_RANDOM, Strategy.STRATEGY_IN_ORDER})


@dataclass(frozen=True)
class Asked:
    """A paid label and why it was requested.

    Attributes:
        why: first, chosen, control, audit or inherited.
        place: Place in the order of selection, from 1, for strategies that choose a whole batch together; else None.
        score: Score by which the strategy ranked the sample, lowest first; None if there is a place, or if the sample
            was drawn at random or in order.
        predicted: Class that the model predicted when it chose the sample; None without a model.
        confidence: Confidence of that prediction, in [0, 1]; None without a model.
        agreed: Whether prediction and label agree; None without a model.
    """

    sample_id: int
    round: int
    why: str
    strategy: str
    place: int | None
    score: float | None
    predicted: str | None
    confidence: float | None
    label: str
    agreed: bool | None


def asked_for(labels: Sequence[LabelRecord], spec: RunSpec, classes: Sequence[str]) -> list[Asked]:
    """Explain each paid label of ``labels``, in their order; auto-labels are left out."""
    return [_asked(label, spec, classes) for label in labels if not label.auto_labelled]


def _asked(label: LabelRecord, spec: RunSpec, classes: Sequence[str]) -> Asked:
    strategy, scored = _strategy(label, spec), label.HasField("score")
    known = label.HasField("confidence")
    return Asked(
        sample_id=label.sample_id,
        round=label.round,
        why=_why(label),
        strategy=word(Strategy.Name(strategy)) if strategy else "–",
        place=int(label.score) + 1 if scored and strategy in _PLACED else None,
        score=label.score if scored and strategy not in _PLACED | _DRAWN else None,
        predicted=classes[label.predicted] if known else None,
        confidence=label.confidence if known else None,
        label=classes[label.label],
        agreed=label.predicted == label.label if known else None,
    )


def _why(label: LabelRecord) -> str:
    if not label.purpose:
        return "inherited"
    first = label.purpose == Purpose.PURPOSE_CHOSEN and not label.round
    return "first" if first else word(Purpose.Name(label.purpose))


def _strategy(label: LabelRecord, spec: RunSpec) -> Strategy.ValueType:
    """Return the strategy that selected the sample; unspecified for an inherited label."""
    if not label.purpose:
        return Strategy.STRATEGY_UNSPECIFIED
    if label.purpose in (Purpose.PURPOSE_CONTROL, Purpose.PURPOSE_AUDIT):
        return Strategy.STRATEGY_RANDOM
    return spec.strategy if label.round else spec.first_strategy
