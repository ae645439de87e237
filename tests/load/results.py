"""The result of a load scenario."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from labelloop_cli.load.calls import Calls, Outcomes
from labelloop_cli.load.figures import figures

from tests.load.checking import Reference
from tests.load.machine import Share
from tests.load.target import Target


@dataclass(frozen=True)
class Result:
    """``figures`` are None if the scenario was skipped, for the reason in ``note``. ``share`` is None if the server's
    cores cannot be observed."""

    name: str
    mode: str
    note: str = ""
    asked_rate_s: float | None = None
    figures: dict[str, Any] | None = None
    outcomes: Outcomes | None = None
    share: Share | None = None

    @property
    def wrong(self) -> int:
        return sum(self.figures["wrong"].values()) if self.figures else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "mode": self.mode,
            "note": self.note,
            "asked_rate_s": self.asked_rate_s,
            **(self.figures or {}),
            "server_cores": asdict(self.share) if self.share else None,
        }


async def checked(target: Target, calls: Calls, outcomes: Outcomes, run_id: str) -> dict[str, Any]:
    """Check every answer, and return figures of ``outcomes``. Models are read last: a run may have new ones."""
    models = await target.runs.models(run_id) if target.runs else {}
    reference = Reference(target.images, models, target.unloaded)
    wrong = await asyncio.to_thread(reference.wrong, calls, outcomes.answers)
    return figures(outcomes, calls.images, wrong)


@contextmanager
def watching(target: Target) -> Iterator[Share | None]:
    """Measure who uses the server's cores; None if the server is not ours."""
    if target.own is None:
        yield None
        return
    with target.own.watched().share() as share:
        yield share
