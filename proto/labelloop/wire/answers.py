"""What holds for each sample that was asked for: a fold over requests and over labels, skips and withdrawals. Pure.

What holds for a sample may change until the run ends. In a batch that is still open it changes at once; a sample of an
earlier batch waits in ``changed`` until the next batch is whole, so that which labels a fit sees is decided by the log
alone and not by what arrives while it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from labelloop.events.v1.events_pb2 import Event, LabelProvided, LabelWithdrawn, SampleSkipped
from labelloop.wire.subjects import OUTCOMES

Outcome = LabelProvided | SampleSkipped | LabelWithdrawn


def outcome_of(event: Event) -> Outcome | None:
    """What ``event`` says of a sample; None where it is of another kind."""
    kind = event.WhichOneof("payload")
    return getattr(event, kind) if kind in OUTCOMES else None


@dataclass
class Answers:
    """``rounds`` maps samples to the round that asked, ``standing`` to what holds now; ``skipped`` are those that hold
    no label. ``batch`` is asked for as one, ``open`` are those of it without label or skip, in the order asked for."""

    rounds: dict[int, int] = field(default_factory=dict)
    standing: dict[int, Outcome] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    batch: frozenset[int] = frozenset()
    open: dict[int, None] = field(default_factory=dict)
    batch_skips: int = 0
    changed: dict[int, None] = field(default_factory=dict)

    def ask(self, round_: int, sample_ids: Iterable[int]) -> None:
        self.open = dict.fromkeys(sample_ids)
        self.batch = frozenset(self.open)
        self.rounds.update(dict.fromkeys(self.open, round_))

    def next_revision(self, sample_id: int) -> int:
        return self.standing[sample_id].revision + 1 if sample_id in self.standing else 0

    def fault(self, round_: int, outcome: Outcome) -> str:
        """Why ``outcome`` cannot come next; empty where it can."""
        if self.rounds.get(outcome.sample_id) != round_:
            return f"round {round_} did not ask for sample {outcome.sample_id}"
        expected = self.next_revision(outcome.sample_id)
        wrong = outcome.revision != expected
        return f"the next revision of sample {outcome.sample_id} is {expected}" if wrong else ""

    def take(self, outcome: Outcome) -> None:
        """Take in what may come next."""
        sample_id = outcome.sample_id
        self.standing[sample_id] = outcome
        self._note_skip(sample_id, isinstance(outcome, SampleSkipped))
        if sample_id not in self.batch:
            self.changed[sample_id] = None
        elif isinstance(outcome, LabelWithdrawn):
            self.open[sample_id] = None
        else:
            self.open.pop(sample_id, None)

    def _note_skip(self, sample_id: int, skipped: bool) -> None:
        self.batch_skips += (skipped - (sample_id in self.skipped)) * (sample_id in self.batch)
        (self.skipped.add if skipped else self.skipped.discard)(sample_id)

    @property
    def batch_labels(self) -> int:
        """How many of the batch hold a label."""
        return len(self.batch) - len(self.open) - self.batch_skips

    @property
    def whole(self) -> bool:
        """Whether a batch has all its answers and waits to be closed."""
        return bool(self.batch) and not self.open

    def close(self) -> None:
        self.batch, self.batch_skips = frozenset(), 0

    def take_changed(self) -> list[int]:
        """Samples of earlier batches for which something else holds than when this was asked last."""
        changed, self.changed = list(self.changed), {}
        return changed
