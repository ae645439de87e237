"""Track the newest model of each run, for Score. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from labelloop.events.v1.events_pb2 import Event

_ENDS = {"run_finished", "run_cancelled", "run_failed"}


class LatestModel:
    """A run, reduced to its models. ``on_change`` is called for each new model and at the end of the run.

    Attributes:
        digest: the newest model, or one taken over from another run; empty if there is none.
        served: the model that answers until the newest is in memory; empty if there is none.
    """

    def __init__(self, started: Event, on_change: Callable[[LatestModel], None]) -> None:
        self.run_id, self._on_change = started.run_id, on_change
        self.digest, self.served = started.run_started.inheritance.model_sha256, ""
        self.round, self.over = 0, False

    def apply(self, event: Event, at: datetime) -> None:
        if event.HasField("model_trained") and not self.over:
            self.round, self.digest = event.round, event.model_trained.model_sha256
            self._on_change(self)
        if event.WhichOneof("payload") in _ENDS and not self.over:
            self.over = True
            self._on_change(self)
