"""A server's own counts of its answered calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labelloop_cli.local.stack import Service

from tests.load.machine import Watched, running_on
from tests.load.target import Own, Target


@dataclass(frozen=True)
class Counted:
    """A scorer under load. ``calls`` of the method by status are known once it has stopped; they and ``watched`` are
    None if we did not start it."""

    address: str
    calls: Counter[str] | None = None
    watched: Watched | None = None


@asynccontextmanager
async def counted_scorer(target: Target, method: str = "Score") -> AsyncIterator[Counted]:
    """Start another scorer beside our own, whose calls of ``method`` are counted, else yield the external one."""
    if target.own is None:
        yield Counted(target.scorer)
        return
    with TemporaryDirectory() as name:
        scorer, counts = _one_more(target.own, Path(name)), Counter[str]()
        try:
            with running_on(target.own.cores.server):
                await scorer.start()
            assert scorer.process is not None, "it has just been started"
            yield Counted(scorer.address, counts, Watched((scorer.process.pid,), target.own.cores.server))
        finally:
            await scorer.stop()
        counts.update(_counts(scorer.log_file, method))


def _one_more(own: Own, folder: Path) -> Service:
    told = {"LABELLOOP_NATS_URL": own.stack.nats_url, "LABELLOOP_CACHE_DIR": str(folder)}
    return Service("scorer", folder, {**told, "LABELLOOP_LOG_FORMAT": "json", "LABELLOOP_LOG_LEVEL": "info"})


def _counts(log_file: Path, method: str) -> Counter[str]:
    """Sum the counts of the workers, which log a line each."""
    lines = [json.loads(line) for line in log_file.read_text().splitlines() if line.startswith("{")]
    served = [line["calls"].get(method, {}) for line in lines if line.get("event") == "calls_served"]
    return sum((Counter(each) for each in served), Counter())
