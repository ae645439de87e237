"""What a run wants of the oracle: a fold over its events, and the one next duty. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from labelloop.events.v1.events_pb2 import Event, LabelSource, PoolPublished, RunSpec


@dataclass(frozen=True)
class PublishPool:
    """Put the pool where scorers find it."""


@dataclass(frozen=True)
class AnswerLabels:
    """Look these samples up in the dataset."""

    round: int
    sample_ids: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Nothing is wanted, or people are to answer."""


_ANSWERS = {"label_provided", "sample_skipped"}

Duty = PublishPool | AnswerLabels | Wait


@dataclass
class Desk:
    """``open`` maps each sample that waits for a label to the round that asked, in the order asked for; the newest
    request is of ``asked_at``. ``answered`` are samples that got a label, or were skipped; ``round`` is that of the
    newest event."""

    run_id: str
    spec: RunSpec
    pool: PoolPublished | None = None
    open: dict[int, int] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    asked_at: datetime | None = None
    round: int = 0
    over: bool = False

    @classmethod
    def begin(cls, event: Event, at: datetime) -> Desk:
        return cls(event.run_id, event.run_started.spec)

    def apply(self, event: Event, at: datetime) -> None:
        """Take in the next event of this run. After the end only labels that were still under way count."""
        kind = event.WhichOneof("payload")
        if self.over and kind not in _ANSWERS:
            return
        self.round = max(self.round, event.round)
        match kind:
            case "pool_published":
                self.pool = event.pool_published
            case "labels_requested":
                self.asked_at = at
                self.open.update(dict.fromkeys(event.labels_requested.sample_ids, event.round))
            case "label_provided":
                self._close(event.label_provided.sample_id)
            case "sample_skipped":
                self._close(event.sample_skipped.sample_id)
            case "run_finished" | "run_cancelled" | "run_failed":
                self.over = True
                self.open.clear()

    @property
    def waits_since(self) -> datetime | None:
        """When the batch that is not whole was asked for; None where there is none."""
        return self.asked_at if self.open else None

    def _close(self, sample_id: int) -> None:
        self.open.pop(sample_id, None)
        self.answered.add(sample_id)


def next_duty(desk: Desk) -> Duty:
    """The one thing to do now."""
    if desk.over:
        return Wait()
    if desk.pool is None:
        return PublishPool()
    if desk.open and desk.spec.label_source == LabelSource.LABEL_SOURCE_DATASET:
        return AnswerLabels(next(iter(desk.open.values())), tuple(desk.open))
    return Wait()
