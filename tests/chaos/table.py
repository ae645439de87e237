"""What came of the trials, as the table in the README of this folder."""

from __future__ import annotations

from collections.abc import Iterable

from tests.chaos.campaign import FAULTS, by_fault, summary
from tests.chaos.trial import Outcome

_AT_A_POINT = "SIGKILL of itself at that point, named in LABELLOOP_CRASH_AT"


def table(outcomes: Iterable[Outcome]) -> str:
    """Markdown: fault, how it is made, runs, violations, recovery."""
    how = {fault.name: fault.how for fault in FAULTS}
    lines = ["| fault | how it is made | runs | violations | recovery, p50 / max |", "|---|---|---|---|---|"]
    for name, group in by_fault(outcomes).items():
        row = summary(name, group)
        recovery = f"{row['recovery_s_p50']} / {row['recovery_s_max']} s" if row["recovery_s_max"] is not None else ""
        lines.append(f"| {name} | {how.get(name, _AT_A_POINT)} | {row['runs']} | {row['violations']} | {recovery} |")
    return "\n".join(lines)
