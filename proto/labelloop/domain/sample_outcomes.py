"""Track the current outcome of each requested sample, folded from requests, labels, skips and withdrawals. No I/O.

A sample's outcome may change until the run ends. In a batch that is still open the change takes effect at once; a
sample of an earlier batch waits in ``changed`` until the next batch is complete. The log alone thus decides which
labels a fit sees, not the results that arrive while it is running.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from labelloop.events.v1.events_pb2 import Event, LabelProvided, LabelWithdrawn, SampleSkipped

Outcome = LabelProvided | SampleSkipped | LabelWithdrawn


def outcome_of(event: Event) -> Outcome | None:
    """Return the sample outcome in ``event``; None if it is of another kind."""
    kind = event.WhichOneof("payload")
    return getattr(event, kind) if kind in OUTCOMES else None


@dataclass
class SampleOutcomes:
    """The outcomes of all samples requested in a run, and the progress of the current batch.

    Attributes:
        rounds: The round that requested each sample.
        standing: The current outcome of each sample that has one.
        skipped: Samples whose current outcome is a skip.
        batch: The samples of the current batch, in the order requested.
        open: Those without a label or skip, in the order requested; a withdrawn label puts its sample last.
        batch_skips: How many of the batch are skipped.
        changed: Samples of earlier batches whose outcome changed since :meth:`pop_changed`.
    """

    rounds: dict[int, int] = field(default_factory=dict)
    standing: dict[int, Outcome] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    batch: dict[int, None] = field(default_factory=dict)
    open: dict[int, None] = field(default_factory=dict)
    batch_skips: int = 0
    changed: dict[int, None] = field(default_factory=dict)

    def open_batch(self, round_: int, sample_ids: Iterable[int]) -> None:
        self.open = dict.fromkeys(sample_ids)
        self.batch = dict(self.open)
        self.rounds.update(dict.fromkeys(self.open, round_))

    def next_revision(self, sample_id: int) -> int:
        return self.standing[sample_id].revision + 1 if sample_id in self.standing else 0

    def fault(self, round_: int, outcome: Outcome) -> str:
        """Explain why ``outcome`` cannot come next; empty if it can."""
        if self.rounds.get(outcome.sample_id) != round_:
            return f"round {round_} did not ask for sample {outcome.sample_id}"
        expected = self.next_revision(outcome.sample_id)
        wrong = outcome.revision != expected
        return f"the next revision of sample {outcome.sample_id} is {expected}" if wrong else ""

    def apply(self, outcome: Outcome) -> None:
        """Apply an outcome that has no fault."""
        sample_id = outcome.sample_id
        self.standing[sample_id] = outcome
        self._count_skip(sample_id, isinstance(outcome, SampleSkipped))
        if sample_id not in self.batch:
            self.changed[sample_id] = None
        elif isinstance(outcome, LabelWithdrawn):
            self.open[sample_id] = None
        else:
            self.open.pop(sample_id, None)

    def _count_skip(self, sample_id: int, skipped: bool) -> None:
        self.batch_skips += (skipped - (sample_id in self.skipped)) * (sample_id in self.batch)
        (self.skipped.add if skipped else self.skipped.discard)(sample_id)

    @property
    def batch_labels(self) -> int:
        """Number of samples in the batch that have a label."""
        return len(self.batch) - len(self.open) - self.batch_skips

    @property
    def whole(self) -> bool:
        """Whether the batch is complete and waits to be closed."""
        return bool(self.batch) and not self.open

    def close_batch(self) -> None:
        self.batch, self.batch_skips = {}, 0

    def pop_changed(self) -> list[int]:
        """Return, once each, the samples of earlier batches whose outcome changed since the last call."""
        changed, self.changed = list(self.changed), {}
        return changed


OUTCOMES = frozenset({"label_provided", "sample_skipped", "label_withdrawn"})  # payloads that set an outcome
