"""Keep since when and why requests and results do not pass between this oracle and its tools. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Literal, get_args

from labelloop.domain.hold_ups import PROBLEM_CHARS, HoldUp

SERVICE = "oracle"
Direction = Literal["requests", "results", "retractions"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class ToolStates:
    """The tools that are away, by direction. Those that were never tried count as there.

    Args:
        now: Gives seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._away: dict[tuple[str, Direction], tuple[float, str]] = {}

    def note(self, tool: str, direction: Direction, problem: str = "") -> None:
        """Note why a direction of a tool fails, or that it works if ``problem`` is empty.

        Credentials in URLs are left out, and long problems are cut.
        """
        key = tool, direction
        if not problem:
            self._away.pop(key, None)
            return
        since = self._away[key][0] if key in self._away else self._now()
        self._away[key] = since, _CREDENTIALS.sub("...", " ".join(problem.split()))[:PROBLEM_CHARS]

    def away(self) -> list[HoldUp]:
        """Return what does not work; may be called from another thread."""
        return [
            HoldUp(SERVICE, problem, since, tool=tool, direction=direction)
            for (tool, direction), (since, problem) in self._away.copy().items()
        ]
