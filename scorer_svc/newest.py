"""The newest model of each run, as Score knows it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from labelloop.events.v1.events_pb2 import Event

_ENDS = {"run_finished", "run_cancelled", "run_failed"}


class NewestModel:
    """A run as far as its models go. ``digest`` is its newest, ``served`` the one that answers meanwhile: it follows
    as soon as the newest is in memory. Empty where there is none; a model taken over from another run counts.

    ``on_new`` is told of each new model.
    """

    def __init__(self, started: Event, on_new: Callable[[NewestModel], None]) -> None:
        self.run_id, self._on_new = started.run_id, on_new
        self.digest, self.served = started.run_started.inheritance.model_sha256, ""
        self.over = False

    def apply(self, event: Event, at: datetime) -> None:
        if event.HasField("model_trained") and not self.over:
            self.digest = event.model_trained.model_sha256
            self._on_new(self)
        self.over = self.over or event.WhichOneof("payload") in _ENDS
