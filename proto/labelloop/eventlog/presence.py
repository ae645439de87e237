"""Tell the other replicas of a service that this one is there, and hear them, over the broker.

Heartbeats are plain messages, which no stream keeps: a broker that restarts has nothing to forget, and nobody waits for
it to store them. A message that is lost, late or doubled costs work at most, see
:class:`~labelloop.domain.run_owners.RunOwners`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import asdict
from typing import Annotated, Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from prometheus_client.core import GaugeMetricFamily, Metric
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from labelloop.domain.run_owners import Heartbeat, RunOwners
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.projections import RunProjections
from labelloop.observability import metrics
from labelloop.runtime.cancellation import without_losing_cancellation

PREFIX = "labelloop-replicas.v1"
BEAT_S = 0.5
_FLUSH_S = 1
_PROBLEM_CHARS = 500

_Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]

log = structlog.get_logger()


class _Said(BaseModel):
    """A message between replicas; fields that a later release adds are ignored.

    Attributes:
        replica: Who says it.
        sequence: Sequence of the newest event that it has applied.
        held_up: Runs that it could not advance lately, and why.
        joining: It begins to listen, and asks the others to say at once that they are there.
        leaving: It has stopped its work.
    """

    replica: _Name
    sequence: int = Field(0, ge=0)
    held_up: dict[_Name, str] = Field(default_factory=dict, max_length=1_000)
    joining: bool = False
    leaving: bool = False


class Presence:
    """Tells the other replicas of a service that this one is there, and hears them.

    Args:
        client: The connection to the broker.
        service: The service's name, such as ``trainer``.
        owners: What this replica knows of the others; kept up to date.
        projections: The runs to notify when their owner may have changed.
        event_log: The log that the runs are recorded in.
    """

    def __init__(
        self, client: Client, service: str, owners: RunOwners, projections: RunProjections[Any], event_log: EventLog
    ) -> None:
        self._client, self._subject = client, f"{PREFIX}.{service}"
        self._owners, self._projections, self._event_log = owners, projections, event_log
        self._present = False
        metrics.watch(self, _gauge)

    async def listen(self) -> None:
        """Hear the other replicas and notice when one falls silent, until cancelled."""
        await self._client.subscribe(self._subject, cb=self._hear)
        await self._say(joining=True)
        while True:
            await asyncio.sleep(BEAT_S)
            if self._owners.look(self._projections.sequence, hearing=self._client.is_connected):
                self._notify()

    async def while_present(self, work: Awaitable[None]) -> None:
        """Carry out the service's work on runs, which the others then leave to this replica, and say when it ends."""
        self._present = True
        try:
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(self._beat())
                await work
                beating.cancel()
        finally:
            self._present = False
            await without_losing_cancellation(self._say(leaving=True))

    async def _beat(self) -> None:
        """Say every ``BEAT_S`` seconds that this replica is there, but not while it cannot record what it does."""
        while True:
            if self._event_log.writable:
                await self._say()
            await asyncio.sleep(BEAT_S)

    async def _say(self, *, joining: bool = False, leaving: bool = False) -> None:
        if not self._client.is_connected:
            return  # the client would keep the message and send it once it is out of date
        beat = self._owners.heartbeat(self._projections.sequence)
        held_up = {run_id: problem[:_PROBLEM_CHARS] for run_id, problem in beat.held_up.items()}
        said = _Said(**{**asdict(beat), "held_up": held_up}, joining=joining, leaving=leaving)
        try:
            await self._client.publish(self._subject, said.model_dump_json().encode())
            if leaving:
                await self._client.flush(_FLUSH_S)
        except NatsError as error:  # the others take over when they hear nothing
            log.info("presence_not_sent", subject=self._subject, error=str(error) or type(error).__name__)

    async def _hear(self, message: Msg) -> None:
        try:
            said = _Said.model_validate_json(message.data)
        except ValidationError as error:
            log.warning("presence_ignored", subject=message.subject, problem=str(error))
            return
        if said.replica == self._owners.replica:
            return
        if said.joining:
            if self._present:
                await self._say()
            return
        beat = Heartbeat(said.replica, said.sequence, said.held_up)
        if self._owners.leave(said.replica) if said.leaving else self._owners.hear(beat):
            self._notify()

    def _notify(self) -> None:
        for run_id in self._unfinished():
            self._projections.notify(run_id)

    def _unfinished(self) -> list[str]:
        return [run_id for run_id in self._projections.runs if self._projections.runs.is_going(run_id)]

    def owned(self) -> list[str]:
        """Return the unfinished runs that this replica advances; may be called from another thread."""
        return [run_id for run_id in self._unfinished() if self._owners.mine(run_id)] if self._present else []


def _gauge(presence: Presence) -> Iterator[Metric]:
    text = "Unfinished runs that this replica advances; each run is advanced by one replica."
    yield GaugeMetricFamily("labelloop_runs_owned", text, value=len(presence.owned()))
