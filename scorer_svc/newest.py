"""The newest model of each run, as Score knows it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from labelloop.events.v1.events_pb2 import Event

_ENDS = {"run_finished", "run_cancelled", "run_failed"}


class NewestModel:
    """A run as far as its models go. ``digest`` is its newest, ``served`` the one that answers meanwhile: it follows
    as soon as the newest is in memory. Empty where there is none; a model taken over from another run counts.

    ``on_change`` is told of each new model, and of the end.
    """

    def __init__(self, started: Event, on_change: Callable[[NewestModel], None]) -> None:
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
