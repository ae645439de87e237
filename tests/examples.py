"""How many examples Hypothesis tries: few for each change, many each night."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = "LABELLOOP_EXAMPLES"


def examples(count: int) -> int:
    """``count`` for ``make test``; as many times more as LABELLOOP_EXAMPLES says."""
    return count * int(os.environ.get(FACTOR, "1"))


def drawn(count: int) -> settings:
    """Return settings for ``examples(count)`` examples, the same ones each time, however slow the machine is."""
    return settings(
        max_examples=examples(count),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
