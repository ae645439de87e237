"""The short campaign: one trial of each of these faults, with real processes. `make chaos` has all faults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.campaign import FAULTS, Campaign, Missing, campaign
from tests.chaos.crash_points import CrashPoint, crash_fault, crash_points
from tests.chaos.trial import Fault

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = 3  # of the published protocol, whose fits are much faster
HONEST_SEED = 1
BRIEF = [
    "trainer killed",
    "all services killed",
    "broker killed",
    "consumers deleted",
    "trainer-broker: cut mid-message",
    "oracle-broker: resets",
    "trainer-scorer: half-open",
    "answers: contradictory",
    "answers: while the oracle dies",
    "artifact store full",
    "bit flipped in an artifact",
    "clock moved",
    "trainer paused beside its twin",
    "scorer paused beside its twin",
    "cluster: leader killed",
    "cluster: two nodes cut off",
]
_BY_NAME = {fault.name: fault for fault in FAULTS}


def _brief_points() -> list[CrashPoint]:
    """Return the points around each append, and one for each put and call; the full campaign has the others."""
    seen: set[tuple[str, str]] = set()
    points = []
    for point in crash_points(SEED):
        kind = point.what.split()[0]
        if kind == "append" or (kind in {"put", "call"} and (kind, point.name.split()[0]) not in seen):
            points.append(point)
        seen.add((kind, point.name.split()[0]))
    return points


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(tmp_path_factory: pytest.TempPathFactory, nats_binary: Path) -> AsyncIterator[Campaign]:
    async with campaign(tmp_path_factory.mktemp("chaos"), nats_binary) as carried_out:
        yield carried_out


async def _survives(trials: Campaign, fault: Fault, seed: int = SEED) -> None:
    try:
        outcome = await trials.try_out(fault, seed)
    except Missing as missing:
        pytest.skip(f"needs {missing}")
    assert not outcome.violations


@pytest.mark.parametrize("name", BRIEF)
async def test_a_run_survives(trials: Campaign, name: str) -> None:
    await _survives(trials, _BY_NAME[name])


async def test_a_run_of_the_honest_protocol_survives(trials: Campaign) -> None:
    await _survives(trials, _BY_NAME["all services killed"], HONEST_SEED)


@pytest.mark.parametrize("point", _brief_points(), ids=lambda point: f"{point.service} {point.name}")
async def test_a_run_survives_a_crash(trials: Campaign, point: CrashPoint) -> None:
    await _survives(trials, crash_fault(point))
