"""Report over the broker what holds up a service's runs and tools, and hear what others report.

Reports are plain messages that no stream keeps, as those in :mod:`labelloop.eventlog.presence`. A replica with nothing
to report is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from labelloop.domain.hold_ups import HOLD_UPS_MAX, PROBLEM_CHARS, HoldUp, HoldUps
from labelloop.eventlog.projections import RunProjections

PREFIX = "labelloop-hold-ups.v1"
EVERY_S = 1.0
_SERVICES = ("trainer", "scorer", "oracle")
_ALL_CLEAR_REPORTS = 3  # a message may be lost

_Name = Annotated[str, StringConstraints(max_length=64)]

log = structlog.get_logger()


class _HoldUp(BaseModel):
    """A :class:`HoldUp` in a message; fields that a later release adds are ignored."""

    problem: Annotated[str, StringConstraints(min_length=1, max_length=PROBLEM_CHARS)]
    since: float = Field(ge=0, le=1e11)
    run_id: _Name = ""
    tool: _Name = ""
    direction: _Name = ""
    at_work: bool = False


class _Report(BaseModel):
    """All that holds up one replica's work now."""

    replica: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    hold_ups: list[_HoldUp] = Field(default_factory=list, max_length=HOLD_UPS_MAX)


class HoldUpReports:
    """Reports what holds up this replica, and hears the others.

    Args:
        client: The connection to the broker.
        service: The service's name, such as ``trainer``.
        replica: This replica's name.
        own: Returns what holds it up now.
        hold_ups: What others report; kept up to date. None if this service does not listen.
        projections: The runs to notify when what holds them up changes; needed to listen.
    """

    def __init__(
        self,
        client: Client,
        service: str,
        replica: str,
        own: Callable[[], Iterable[HoldUp]],
        hold_ups: HoldUps | None = None,
        projections: RunProjections[Any] | None = None,
    ) -> None:
        self._client, self._service, self._replica, self._own = client, service, replica, own
        self._hold_ups, self._projections = hold_ups, projections
        self._clear, self._before = _ALL_CLEAR_REPORTS, set[HoldUp]()

    async def exchange(self) -> None:
        """Report and hear, until cancelled."""
        if self._hold_ups:
            await self._client.subscribe(f"{PREFIX}.*", cb=self._hear)
        while True:
            await self._report()
            await asyncio.sleep(EVERY_S)
            if self._hold_ups:
                self._notify(self._hold_ups.look())

    async def _report(self) -> None:
        found = list(self._own())[:HOLD_UPS_MAX]
        self._notify(self._before ^ {*found})
        self._before = {*found}
        if not self._client.is_connected:
            return  # the client would keep the message and send it once it is out of date
        self._clear = 0 if found else self._clear + 1
        if self._clear > _ALL_CLEAR_REPORTS:
            return
        hold_ups = [
            _HoldUp(
                problem=each.problem[:PROBLEM_CHARS],
                since=each.since,
                run_id=each.run_id,
                tool=each.tool,
                direction=each.direction,
                at_work=each.at_work,
            )
            for each in found
        ]
        report = _Report(replica=self._replica, hold_ups=hold_ups)
        try:
            await self._client.publish(
                f"{PREFIX}.{self._service}", report.model_dump_json(exclude_defaults=True).encode()
            )
        except NatsError as error:
            log.info("hold_ups_not_reported", error=str(error) or type(error).__name__)

    async def _hear(self, message: Msg) -> None:
        service = message.subject.removeprefix(f"{PREFIX}.")
        if service not in _SERVICES or self._hold_ups is None:
            return
        try:
            report = _Report.model_validate_json(message.data)
        except ValidationError as error:
            log.warning("hold_ups_ignored", subject=message.subject, problem=str(error))
            return
        if (service, report.replica) == (self._service, self._replica):
            return
        self._notify(
            self._hold_ups.hear(service, report.replica, (HoldUp(service, **dict(each)) for each in report.hold_ups))
        )

    def _notify(self, changed: Iterable[HoldUp]) -> None:
        runs = self._projections.runs if self._projections else None
        if runs is None or self._projections is None:
            return
        tools = {each.tool for each in changed if each.tool}
        run_ids = {each.run_id for each in changed if each.run_id in runs}
        if tools:
            run_ids |= {run.run_id for run in runs.going() if run.spec.queue.tool in tools}
        for run_id in run_ids:
            self._projections.notify(run_id)
