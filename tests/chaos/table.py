"""Results of the trials, as the table in this folder's README."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from tests.chaos.campaign import FAULTS, by_fault, summary
from tests.chaos.trial import Outcome

_DIES = re.compile("(trainer|scorer|oracle) dies (before|after) ")


def table(outcomes: Iterable[Outcome]) -> str:
    """Return Markdown: fault, how it is made, runs, violations, recovery. A service's crash points share a row."""
    made = list(outcomes)
    how = {fault.name: fault.how for fault in FAULTS}
    lines = ["| fault | how it is made | runs | violations | recovery, p50 / max |", "|---|---|---|---|---|"]
    for name, group in by_fault(map(_by_service, made)).items():
        row = summary(name, group)
        recovery = f"{row['recovery_s_p50']} / {row['recovery_s_max']} s" if row["recovery_s_max"] is not None else ""
        points = len({outcome.fault for outcome in made if name.startswith(outcome.fault.split(" dies ")[0])})
        made_how = how.get(name, f"SIGKILL of itself; {points} points, named in `LABELLOOP_CRASH_AT`")
        lines.append(f"| {name} | {made_how} | {row['runs']} | {row['violations']} | {recovery} |")
    return "\n".join(lines)


def _by_service(outcome: Outcome) -> Outcome:
    dies = _DIES.match(outcome.fault)
    return replace(outcome, fault=f"{dies[1]} dies at a crash point") if dies else outcome
