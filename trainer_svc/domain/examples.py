"""Represent labelled samples and the batch that is being labelled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from labelloop.events.v1.events_pb2 import LabelProvided, LabelsRequested, Purpose
from labelloop.scorer.v1.scorer_pb2 import Strategy

# Looked up once: by name each takes a microsecond, for every label of every run.
_RANDOM = Strategy.STRATEGY_RANDOM
_UNSPECIFIED, _CHOSEN, _CONTROL = Purpose.PURPOSE_UNSPECIFIED, Purpose.PURPOSE_CHOSEN, Purpose.PURPOSE_CONTROL


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled sample, and everything that is known about its label."""

    sample_id: int
    label: int
    auto_labelled: bool
    source: str
    annotator: str
    round: int
    at: datetime
    predicted: int | None
    confidence: float | None
    purpose: Purpose.ValueType = _UNSPECIFIED
    score: float | None = None


@dataclass(frozen=True)
class Batch:
    """The samples of one request, labelled together."""

    round: int
    request: LabelsRequested

    def example(self, i: int, label: LabelProvided, at: datetime) -> Example:
        """Build the example for the sample at position ``i`` of the request from its label."""
        known = bool(self.request.predicted)
        return Example(
            sample_id=label.sample_id,
            label=label.label,
            auto_labelled=False,
            source=label.source,
            annotator=label.annotator,
            round=self.round,
            at=at,
            predicted=self.request.predicted[i] if known else None,
            confidence=self.request.confidence[i] if known else None,
            purpose=self._purpose(i),
            score=self.request.score[i] if self.request.score else None,
        )

    def _purpose(self, i: int) -> Purpose.ValueType:
        """Return why sample ``i`` was requested; samples that the random strategy drew also serve as controls."""
        chosen = _CONTROL if self.request.strategy == _RANDOM else _CHOSEN
        return (self.request.purposes[i] if self.request.purposes else _UNSPECIFIED) or chosen
