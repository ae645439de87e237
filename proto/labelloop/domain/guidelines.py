"""Check the guidelines by which people label a run. Pure functions."""

from __future__ import annotations

from labelloop.domain.limits import GUIDELINES_BYTES_MAX
from labelloop.domain.names import prose_fault


def guidelines_fault(text: str) -> str:
    """Describe why a text cannot be the guidelines of a run; empty if it can."""
    size = len(text.encode(errors="replace"))
    if size > GUIDELINES_BYTES_MAX:
        return f"the guidelines have {size:,} bytes: shorten them to {GUIDELINES_BYTES_MAX:,}, or link to a longer text"
    fault = prose_fault(text, GUIDELINES_BYTES_MAX)
    return f"the guidelines are no plain text: {fault}" if fault else ""
