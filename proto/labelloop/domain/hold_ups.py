"""Know what holds up runs and tools, as every replica of every service reports it. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from labelloop.diagnostics.v1.diagnostics_pb2 import HoldUp as HoldUpMessage

SILENT_S = 5.0
"""Seconds without a report after which what a replica reported no longer counts."""
HOLD_UPS_MAX = 256
"""How much one replica reports at most."""
PROBLEM_CHARS = 500
_REPORTERS_MAX = 192


@dataclass(frozen=True)
class HoldUp:
    """What holds up a run, or keeps requests and results from passing between the oracle and a tool.

    Attributes:
        service: The service that reports it, such as ``oracle``.
        problem: Why, in words.
        since: When it began, in seconds since 1970 by the clock of the service.
        run_id: The run; empty if it concerns a tool, and all runs that use it.
        tool: The annotation tool; empty if it concerns a run.
        direction: What does not pass: ``requests``, ``results`` or ``retractions``.
        at_work: Whether it is a long step that is under way, and no fault.
    """

    service: str
    problem: str
    since: float
    run_id: str = ""
    tool: str = ""
    direction: str = ""
    at_work: bool = False

    @property
    def text(self) -> str:
        """The problem, with the tool that it concerns."""
        return f"{self.tool} is away ({self.direction}): {self.problem}" if self.tool else self.problem


@dataclass(frozen=True)
class _Report:
    heard_at: float
    found: tuple[HoldUp, ...]


class HoldUps:
    """What replicas reported lately.

    Args:
        now: Gives seconds on a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._reports: dict[tuple[str, str], _Report] = {}

    def hear(self, service: str, replica: str, found: Iterable[HoldUp]) -> set[HoldUp]:
        """Take in all that a replica reports now, in place of what it reported before; return what that changes."""
        key = service, replica
        before = self._reports.get(key)
        if before is None and len(self._reports) >= _REPORTERS_MAX:
            return set()
        report = _Report(self._now(), tuple(found)[:HOLD_UPS_MAX])
        if report.found:
            self._reports[key] = report
        else:
            self._reports.pop(key, None)
        return {*report.found} ^ {*(before.found if before else ())}

    def look(self) -> set[HoldUp]:
        """Drop the reports of replicas that fell silent; return what they held."""
        over = [key for key, report in self._reports.items() if self._now() - report.heard_at > SILENT_S]
        return {each for key in over for each in self._reports.pop(key).found}

    def of_run(self, run_id: str, tool: str = "") -> list[HoldUp]:
        """Return what holds up a run that uses ``tool``, if it uses one."""
        found = (
            each
            for report in self._reports.values()
            for each in report.found
            if (each.run_id == run_id if each.run_id else each.tool == tool)
        )
        return merged(found)

    def of_tools(self) -> list[HoldUp]:
        """Return what does not pass between oracles and tools."""
        return merged(each for report in self._reports.values() for each in report.found if each.tool)


def merged(found: Iterable[HoldUp]) -> list[HoldUp]:
    """Return hold-ups by age, one for each of a tool's directions, and one of those that read the same."""
    first: dict[tuple[str, ...], HoldUp] = {}
    for each in sorted(found, key=lambda each: (each.since, each.problem)):
        key = (each.run_id, each.tool, each.direction) if each.tool else (each.run_id, each.service, each.problem)
        first.setdefault(key, each)
    return list(first.values())


def message_of(hold_up: HoldUp) -> HoldUpMessage:
    """Return what clients receive of a hold-up."""
    message = HoldUpMessage(
        service=hold_up.service,
        problem=hold_up.problem[:PROBLEM_CHARS],
        tool=hold_up.tool,
        direction=hold_up.direction,
        at_work=hold_up.at_work,
    )
    message.since.FromDatetime(datetime.fromtimestamp(hold_up.since, UTC))
    return message


def said(found: Sequence[HoldUp], own_service: str = "") -> str:
    """Return the problems among ``found`` in one sentence; those of other services name their service."""
    problems = [each for each in found if not each.at_work]
    return "; ".join(each.text if each.service == own_service else f"{each.service}: {each.text}" for each in problems)
