"""Run r with an oracle that is connected to a fake Label Studio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from labelloop.events.v1.events_pb2 import LabelProvided
from nats.aio.client import Client

from oracle_svc.bootstrap import Oracle
from oracle_svc.integrations.label_studio.integration import LabelStudio
from oracle_svc.integrations.registry import connected
from tests.queues.fake_label_studio import PROJECT

CLASSES = ("a", "b", "c")
SECRET = "a secret of sixteen characters"


def connect_to(url: str, monkeypatch: pytest.MonkeyPatch, project: int | None = PROJECT) -> None:
    """Set what the integration reads from the environment."""
    settings = {"URL": url, "TOKEN": "legacy", "POLL_S": "0.05", "WEBHOOK_SECRET": SECRET}
    for name, value in settings.items():
        monkeypatch.setenv(f"LABELLOOP_LABEL_STUDIO_{name}", value)
    if project:
        monkeypatch.setenv("LABELLOOP_LABEL_STUDIO_PROJECT", str(project))


@asynccontextmanager
async def serving(one: Oracle, *, pushing: bool = False) -> AsyncIterator[LabelStudio]:
    """Run the integration as the oracle creates it: its results alone, or ``pushing`` requests too."""
    made = connected(Client(), 1, one.projections, one.leases)
    [queue] = [each for each in made if isinstance(each, LabelStudio)]
    task = asyncio.create_task(one.dispatcher(queue).run() if pushing else queue.serve(one.result_sink(queue.name)))
    try:
        yield queue
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await queue.aclose()


def names(one: Oracle) -> dict[int, str]:
    """Who gave the current labels of run r, by sample."""
    standing = one.projections.get("r").answers.standing
    return {key: outcome.annotator for key, outcome in standing.items() if isinstance(outcome, LabelProvided)}


def label_count(one: Oracle) -> int:
    return len(names(one))
