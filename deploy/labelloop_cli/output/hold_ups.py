"""Format hold-ups of runs and tools, with their cause and start. Pure functions."""

from __future__ import annotations

from typing import Any

from labelloop.diagnostics.v1.diagnostics_pb2 import HoldUp

from labelloop_cli.output.local_time import local_time


def told(hold_up: HoldUp) -> str:
    """Format a hold-up as one line: since when, the service or tool, and the problem."""
    what = f"{hold_up.tool} is away ({hold_up.direction})" if hold_up.tool else f"the {hold_up.service}"
    return f"since {local_time(hold_up.since)}, {what}: {hold_up.problem}"


def tool_away(hold_up: HoldUp) -> str:
    """Return which tool is away in which direction, since when and why, in one line."""
    return f"{hold_up.tool} is away ({hold_up.direction}) since {local_time(hold_up.since)}: {hold_up.problem}"


def faults(held_up: list[HoldUp]) -> list[HoldUp]:
    """Return those that are no long step under way."""
    return [each for each in held_up if not each.at_work]


def document(hold_up: HoldUp) -> dict[str, Any]:
    """Return what programs read of a hold-up."""
    return {
        "service": hold_up.service,
        "tool": hold_up.tool,
        "direction": hold_up.direction,
        "problem": hold_up.problem,
        "since": hold_up.since.ToJsonString(),
        "at_work": hold_up.at_work,
    }
