"""Hold the auto-labels that an audit allows, which may be nearly a whole pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from labelloop.events.v1.events_pb2 import SamplesAutoLabelled

from trainer_svc.domain.examples import Example

MODEL_SOURCE = "model"


@dataclass(frozen=True)
class CertifiedLabels:
    """Auto-labels in the order given, 12 bytes each: examples are made of them while they are iterated over.

    Attributes:
        parts: The events, each with its round and when it was recorded.
        count: Number of auto-labels.
    """

    parts: tuple[tuple[SamplesAutoLabelled, int, datetime], ...] = ()
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Example]:
        for given, round_, at in self.parts:
            yield from auto_labelled(given, round_, at)

    def with_more(self, given: SamplesAutoLabelled, round_: int, at: datetime) -> CertifiedLabels:
        """Return these auto-labels and those of another event."""
        return CertifiedLabels((*self.parts, (given, round_, at)), self.count + len(given.sample_ids))


def auto_labelled(given: SamplesAutoLabelled, round_: int, at: datetime) -> Iterator[Example]:
    """Yield an example for each sample that a model labelled."""
    for sample_id, label, confidence in zip(given.sample_ids, given.classes, given.confidence, strict=True):
        yield Example(sample_id, label, True, MODEL_SOURCE, "", round_, at, predicted=label, confidence=confidence)
