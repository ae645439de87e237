"""A chaos campaign: many trials, each in the world that it needs, and their results."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import faults_answers, faults_broker, faults_network, faults_people, faults_processes, faults_storage
from tests.chaos.trial import Fault, Outcome, Trial
from tests.chaos.world import Plan, World, world
from tests.integration.production_broker import version_of

SIMULATED = "simulated schedules"
RESULTS = Path("out/chaos/results.json")
_OF_SERVICES: list[Fault] = [
    *faults_processes.FAULTS,
    *faults_broker.FAULTS,
    *faults_network.FAULTS,
    *faults_storage.FAULTS,
]
FAULTS: list[Fault] = [*_OF_SERVICES, *faults_answers.FAULTS, *faults_people.faults(_OF_SERVICES)]
_SOUND_SINCE = (2, 12)  # the minimum for production by deploy/README.md
_SMALL_DISK = "24m"
_LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Missing(Exception):
    """This machine lacks a prerequisite of a world."""


@dataclass
class Campaign:
    """Carry out trials. A world is opened when first needed, and closed when another one is."""

    folder: Path
    binary: Path
    outcomes: list[Outcome] = field(default_factory=list)
    schedules: int = 0
    schedules_violated: int = 0
    _worlds: dict[str, World] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def try_out(self, fault: Fault, seed: int) -> Outcome:
        """Carry out one trial. Raise Missing if its world is not available here."""
        there = await self.open(fault.where)
        outcome = await Trial(there, fault, seed, len(self.outcomes)).carry_out()
        self.outcomes.append(outcome)
        if outcome.violations:  # the state is undefined: the next trial gets a new world
            await self.close()
        return outcome

    async def open(self, name: str) -> World:
        """Return the world of that name; one is up at a time, as two cores run no more."""
        if name not in self._worlds:
            await self.close()
            folder = self.folder / f"{name} {len(self.outcomes)}".replace(" ", "_")
            folder.mkdir(parents=True)
            plan = self._stack.enter_context(_plan(name, folder, self.binary))
            self._worlds[name] = await self._stack.enter_async_context(world(folder, self.binary, plan))
        return self._worlds[name]

    async def close(self) -> None:
        await self._stack.aclose()
        self._worlds.clear()


@asynccontextmanager
async def campaign(folder: Path, binary: Path) -> AsyncIterator[Campaign]:
    """Run a campaign, and write its results at the end, also after an error."""
    carried_out = Campaign(folder, binary)
    try:
        yield carried_out
    finally:
        await carried_out.close()
        write_results(carried_out)


@contextmanager
def _plan(name: str, folder: Path, binary: Path) -> Iterator[Plan]:
    match name:
        case "twins":
            yield Plan(twins=True)
        case "cluster":
            yield Plan(clustered=True)
        case "sound cluster":
            if version_of(binary) < _SOUND_SINCE:
                raise Missing("nats-server 2.12 or newer: older nodes may come to hold different events for good")
            yield Plan(clustered=True)
        case "small disk":
            with _tmpfs(folder / "artifacts"), _tmpfs(folder / "broker"):
                yield Plan(artifacts=folder / "artifacts", broker_store=folder / "broker")
        case "clock":
            if not _LIBFAKETIME.exists():
                raise Missing("libfaketime (Debian: faketime)")
            clock = folder / "clock"
            clock.write_text("+0")
            yield Plan(environment=_faked(clock))
        case _:
            yield Plan()


def _faked(clock: Path) -> dict[str, str]:
    """Fake the wall clock only: timeouts use the monotonic clock, which no operator sets."""
    return {
        "LD_PRELOAD": str(_LIBFAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def _tmpfs(folder: Path) -> Iterator[None]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        raise Missing("the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def write_results(carried_out: Campaign) -> None:
    """``{"faults": [{"name", "runs", "violations", "recovery_s_p50", "recovery_s_max"}, ...]}``"""
    faults = [summary(name, group) for name, group in by_fault(carried_out.outcomes).items()]
    if carried_out.schedules:
        simulated = {"name": SIMULATED, "runs": carried_out.schedules, "violations": carried_out.schedules_violated}
        faults.append(simulated | {"recovery_s_p50": None, "recovery_s_max": None})
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"faults": faults}, indent=1) + "\n")


def by_fault(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Group outcomes by fault, in the order of first occurrence."""
    groups: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.fault].append(outcome)
    return groups


def summary(name: str, outcomes: list[Outcome]) -> dict[str, object]:
    recoveries = [outcome.recovery_s for outcome in outcomes if outcome.recovery_s is not None]
    return {
        "name": name,
        "runs": len(outcomes),
        "violations": sum(bool(outcome.violations) for outcome in outcomes),
        "recovery_s_p50": round(statistics.median(recoveries), 2) if recoveries else None,
        "recovery_s_max": round(max(recoveries), 2) if recoveries else None,
    }
