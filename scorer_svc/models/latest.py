"""Track the newest model of each run, for Score. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from labelloop.domain.run_end import end_of
from labelloop.domain.run_view import RunView
from labelloop.domain.summaries import Summaries
from labelloop.events.v1.events_pb2 import Event


@dataclass
class LatestModel(RunView):
    """A run, reduced to its models. ``on_change`` is called for each new model and at the end of the run.

    Once the run has ended, nothing is kept of its samples: after many runs that would be most of a scorer's memory.

    Attributes:
        served: the model that answers until the newest is in memory; empty if there is none.
    """

    run_id: str
    on_change: Callable[[LatestModel], None]
    served: str = ""
    _digests: bytearray = field(default_factory=bytearray)  # of the rounds, a line each: a quarter of what a dict takes

    @property
    def models(self) -> dict[int, str]:
        """The model of each round, in order; rounds with one are counted from 1 on."""
        return dict(enumerate(self._digests.decode().split(), 1))

    def apply(self, event: Event, at: datetime) -> None:
        if not self.run_log.apply(event):
            return
        if event.HasField("model_trained"):
            self._digests += f"{event.model_trained.model_sha256}\n".encode()
        if self.run_log.over and not self.run_log.closed:
            self.run_log.close()
        if event.HasField("model_trained") or end_of(event):
            self.on_change(self)


def model_of(run: LatestModel) -> str:
    """Return the digest of a run's newest model, which is all that is needed of a run that has ended."""
    return run.model_sha256


MODELS = Summaries(str.encode, bytes.decode)
"""How the models of ended runs are kept in a snapshot."""
