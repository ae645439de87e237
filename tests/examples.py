"""How many examples Hypothesis tries: few for each change, many each night."""

from __future__ import annotations

import os

FACTOR = "LABELLOOP_EXAMPLES"


def examples(count: int) -> int:
    """``count`` for ``make test``; as many times more as LABELLOOP_EXAMPLES says."""
    return count * int(os.environ.get(FACTOR, "1"))
