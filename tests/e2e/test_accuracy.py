"""One run has one accuracy: the same in the list, for programs, while it is watched, in the report and on the page."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from labelloop.events.v1.events_pb2 import DatasetSource, Protocol, RunSpec
from labelloop.scorer.v1.scorer_pb2 import Strategy
from labelloop_cli.clients import connect
from labelloop_cli.local.stack import Page, Stack, running

from tests.blobs import EVALUATION_SIZE, Blobs, spec, write_blobs
from tests.e2e.driving import finish, start
from tests.e2e.test_cli import labelloop, row
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")
_TOKEN = "page-token-for-tests"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paged(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Stack]:
    """A broker and three services, with the page."""
    async with running(tmp_path_factory.mktemp("paged") / "store", page=Page(token=_TOKEN)) as up:
        yield up


def honest(
    blobs: Blobs,
    *,
    evaluation: bool,
    control_percent: int,
    labels: int = 20,
    first: Strategy.ValueType = Strategy.STRATEGY_RANDOM,
) -> RunSpec:
    whole = blobs.source()
    source = whole if evaluation else DatasetSource(name=whole.name, labels=whole.labels)
    return spec(
        blobs,
        dataset=source,
        first_strategy=first,
        protocol=Protocol.PROTOCOL_HONEST,
        stopping_sample_count=0,
        auto_label_budget=0,
        auto_label_batch_size=0,
        batch_size=10,
        label_budget=labels,
        control_percent=control_percent,
    )


def specs(blobs: Blobs) -> dict[str, tuple[RunSpec, str]]:
    """Specs of runs by their id, and a pattern of what is known of their accuracy."""
    return {
        "evaluated": (
            honest(blobs, evaluation=True, control_percent=20),
            rf"accuracy \(evaluation set, n = {EVALUATION_SIZE}\) [\d.]+ %, 95 % interval [\d.]+ to [\d.]+ %",
        ),
        "few-controls": (
            honest(blobs, evaluation=False, control_percent=20),
            r"accuracy \(\d control samples?\) between \d+ % and \d+ %",
        ),
        "many-controls": (
            honest(blobs, evaluation=False, control_percent=50, labels=70),
            r"accuracy \(3\d control samples\) [\d.]+ %, 95 % interval [\d.]+ to [\d.]+ %",
        ),
        "nothing-random": (
            honest(blobs, evaluation=False, control_percent=0, first=Strategy.STRATEGY_TYPICLUST),
            "accuracy not known",
        ),
        "published": (spec(blobs), rf"accuracy \(evaluation set, n = {EVALUATION_SIZE}\) [\d.]+ %"),
    }


async def test_every_display_of_a_run_says_the_same_accuracy(paged: Stack, tmp_path: Path) -> None:
    wanted = specs(write_blobs(tmp_path))
    async with connect(paged.endpoints) as clients:
        for run_id, (made, _) in wanted.items():
            await start(clients, run_id, made)
            await finish(clients, run_id)
        table, listed = await lists(paged)
        for run_id, (_, pattern) in wanted.items():
            estimate = listed[run_id]["accuracy"]
            text = estimate["text"] if estimate else "accuracy not known"
            assert re.match(pattern, text), run_id
            assert row(run_id, table).endswith(estimate["short"] if estimate else "–")
            assert text in await watched(run_id, paged)
            assert text.lower() in (await reported(run_id, paged, tmp_path)).lower()
            now, curves = await shown(run_id, paged)
            agree(now, estimate)
            if estimate:
                agree(curves["learning"][-1], estimate)
                assert (estimate["value"] is None) == (estimate["total"] < 30)
        assert listed["few-controls"]["cross_validated_agreement"]["total"] > 0


def agree(shown_here: dict[str, Any] | None, estimate: dict[str, Any] | None) -> None:
    if estimate is None or shown_here is None:
        assert shown_here is estimate is None
        return
    of_both = ("measured_on", "name", "text", "short", "value", "low", "high", "correct", "total")
    assert {name: shown_here[name] for name in of_both} == {name: estimate[name] for name in of_both}


async def lists(stack: Stack) -> tuple[str, dict[str, Any]]:
    code, table = await labelloop("run", "list", stack=stack)
    assert code == 0, table
    code, document = await labelloop("run", "list", "--json", stack=stack)
    assert code == 0, document
    return "\n".join(line.rstrip() for line in table.splitlines()), {
        each["run_id"]: each for each in json.loads(document)["runs"]
    }


async def watched(run_id: str, stack: Stack) -> str:
    code, text = await labelloop("run", "watch", run_id, stack=stack)
    assert code == 0, text
    return " ".join(text.split())


async def reported(run_id: str, stack: Stack, folder: Path) -> str:
    path = folder / f"{run_id}.html"
    code, text = await labelloop("report", run_id, "-o", path, stack=stack)
    assert code == 0, text
    return " ".join(path.read_text(encoding="utf-8").split())


async def shown(run_id: str, stack: Stack) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """What the page shows of a run's accuracy, and its curves."""
    site, _, path = stack.page_url.partition("/?")
    async with httpx.AsyncClient(base_url=site, timeout=PATIENCE_S) as client:
        await client.get(f"/?{path}&name=ada")
        messages: dict[str, Any] = {}
        async with asyncio.timeout(PATIENCE_S), client.stream("GET", f"/api/runs/{run_id}/events") as response:
            assert response.status_code == 200
            name = ""
            async for line in response.aiter_lines():
                kind, _, data = line.partition(": ")
                if kind == "event":
                    name = data
                if kind == "data":
                    messages[name] = json.loads(data)
                if {"now", "curves"} <= messages.keys():
                    break
    return messages["now"]["accuracy"], messages["curves"]
