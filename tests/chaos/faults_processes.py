"""Faults of processes: killed, paused, or running beside a twin."""

from __future__ import annotations

import asyncio
import signal

from tests.chaos.trial import Fault, Trial

_PAUSE_S = 7.0  # longer than any service or client waits for a sign of life


async def _kill(trial: Trial, *victims: str) -> None:
    for victim in victims:
        await trial.reach()
        dead = trial.world.send(victim, signal.SIGKILL)
        await trial.over(victim)
        await trial.world.up_again(victim, dead)


def _killing(victim: str) -> Fault:
    async def make(trial: Trial) -> None:
        await _kill(trial, victim)

    return Fault(f"{victim} killed", f"SIGKILL of the {victim} at a random moment; its supervisor starts it anew", make)


async def _kill_all(trial: Trial) -> None:
    await trial.reach()
    order = trial.rng.sample(["trainer", "scorer", "oracle"], 3)
    dead = {victim: trial.world.send(victim, signal.SIGKILL) for victim in order}
    await trial.over("trainer")
    for victim, process_id in dead.items():
        await trial.world.up_again(victim, process_id)


async def _kill_again_and_again(trial: Trial) -> None:
    for _ in range(3):
        victim = trial.rng.choice(["trainer", "scorer", "oracle"])
        await asyncio.sleep(trial.rng.uniform(0, 0.5))
        await trial.world.up_again(victim, trial.world.send(victim, signal.SIGKILL))


def _pausing(victim: str) -> Fault:
    async def make(trial: Trial) -> None:
        """The twin carries on; the paused process resumes the work that it had begun."""
        await trial.reach(0.05, 0.5)
        trial.world.send(victim, signal.SIGSTOP)
        await trial.over()
        try:
            await asyncio.sleep(_PAUSE_S)
        finally:
            trial.world.send(victim, signal.SIGCONT)

    how = f"two of each service on one run; one {victim} stopped with SIGSTOP for {_PAUSE_S:.0f} s, then continued"
    return Fault(f"{victim} paused beside its twin", how, make, where="twins")


async def _kill_a_twin(trial: Trial) -> None:
    await _kill(trial, trial.rng.choice(["trainer", "trainer2", "scorer2", "oracle", "oracle2"]))


async def _pause_alone(trial: Trial) -> None:
    await trial.reach(0.05, 0.5)
    victim = trial.rng.choice(["trainer", "scorer", "oracle"])
    trial.world.send(victim, signal.SIGSTOP)
    try:
        await asyncio.sleep(_PAUSE_S)
    finally:
        trial.world.send(victim, signal.SIGCONT)
        await trial.over(victim)


FAULTS = [
    _killing("trainer"),
    _killing("scorer"),
    _killing("oracle"),
    Fault("all services killed", "SIGKILL of trainer, scorer and oracle at one moment", _kill_all),
    Fault(
        "killed again and again", "three SIGKILLs of services drawn by lot, half a second apart", _kill_again_and_again
    ),
    Fault("a service paused", f"one service drawn by lot stopped with SIGSTOP for {_PAUSE_S:.0f} s", _pause_alone),
    _pausing("trainer"),
    _pausing("scorer"),
    _pausing("oracle"),
    Fault(
        "a twin killed", "two of each service on one run; one drawn by lot gets SIGKILL", _kill_a_twin, where="twins"
    ),
]
