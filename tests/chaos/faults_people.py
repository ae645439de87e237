"""Faults of three annotators, and every other fault while three annotators label a run."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos.people import RULES, Rule
from tests.chaos.queue_workforce import AtAQueue
from tests.chaos.trial import Fault, Trial
from tests.chaos.workforce import Habits, ThreePeople
from tests.chaos.world import ARMED

CALM = Habits()


async def _nothing(trial: Trial) -> None:
    """Leave the services alone: the annotators' habits are the fault."""


async def _kill_one_after_another(trial: Trial) -> None:
    """Kill each service once, and the broker between two of them."""
    for victim in trial.rng.sample(["trainer", "scorer", "oracle", "broker"], 4):
        await trial.reach(0.05, 0.8)
        if victim == "broker":
            broker = trial.world.the_broker
            await broker.stop()
            await broker.start()
        else:
            await trial.world.restart(victim)
        await trial.over(victim)


_POINTS = {  # how often a run of three annotators passes at least
    "oracle": {
        "append answer_given": 60,
        "append label_provided": 20,
        "serve LeaseNext": 30,
        "serve SubmitResults": 60,
    },
    "trainer": {"append labels_requested": 20, "append model_trained": 20, "append run_finished": 1},
    "scorer": {"serve RankPool": 9},
}


def _dying(service: str, point: str, most: int) -> Fault:
    async def make(trial: Trial) -> None:
        victim = trial.world.services[service]
        process = victim.process
        assert process is not None, "services are up"
        Path(victim.environment[ARMED]).write_text(f"{point}#{trial.rng.randint(1, most)}")
        assert await process.wait() == -signal.SIGKILL
        await trial.over(service)
        await trial.world.up_again(service, process.pid)

    return Fault(f"{service} dies {point}", "SIGKILL of itself at that point, at an occurrence drawn by lot", make)


def with_people(fault: Fault, habits: Habits = CALM, rules: Sequence[Rule] = RULES) -> Fault:
    """Return a fault that happens while three annotators label the run, by one of these rules."""
    name, how = f"three annotators: {fault.name}", f"{fault.how}, while three people label the run"
    return replace(fault, name=name, how=how, workforces=tuple(ThreePeople(rule, habits) for rule in rules))


def with_queue(fault: Fault, rules: Sequence[Rule] = RULES) -> Fault:
    """Return a fault that happens while three annotators label the run over a queue, by one of these rules."""
    how = f"requests and results over the broker's queue, each result sent twice; {fault.how}"
    workforces = tuple(AtAQueue(rule, Habits(times=2)) for rule in rules)
    return replace(fault, name=f"three annotators: {fault.name}", how=how, workforces=workforces)


def _people(name: str, how: str, habits: Habits, make: Callable[[Trial], Awaitable[None]] = _nothing) -> Fault:
    return with_people(Fault(name, how, make), habits)


KILLS = Fault(
    "everything at once",
    "all of these, and each service killed once, and the broker restarted",
    _kill_one_after_another,
)
QUEUE = with_queue(
    Fault(
        "results twice by a queue", "each service and the broker killed or restarted meanwhile", _kill_one_after_another
    )
)
EVERYTHING = Habits(tabs=2, times=2, late=True, vanishing=True)
HABITS = [
    _people("one vanishes", "somebody takes leases of each round for 1 s and never answers", Habits(vanishing=True)),
    _people("results twice", "each sent three times at once and once more", Habits(times=3)),
    _people("results late", "for all settled samples anew, also by whoever was not asked", Habits(late=True)),
    _people("two tabs", "two of each person at the same time", Habits(tabs=2)),
    with_people(KILLS, EVERYTHING),
    QUEUE,
]
CRASHES = [
    _dying(service, f"{when} {point}", most)
    for service, points in _POINTS.items()
    for point, most in points.items()
    for when in ("before", "after")
]


def faults(others: Sequence[Fault]) -> list[Fault]:
    """Return the faults of people and, while people label, each of ``others`` and the crash points they pass."""
    return [*HABITS, *map(with_people, [*others, *CRASHES])]
