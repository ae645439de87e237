"""Runs in memory under faults that a seed or Hypothesis chooses, and a check that the invariants find defects."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from labelloop.events.v1.events_pb2 import Event, LabelSource, Protocol, RunSpec, RunStarted
from labelloop.scorer.v1.scorer_pb2 import Strategy

from tests.chaos.few_workers import FewWorkers, Leases, LeasesThatLast
from tests.chaos.invariants import faults
from tests.chaos.mutants import MUTANTS
from tests.chaos.simulation import MEMBERS_MAX, Parts, Schedule, Violation, World, run_schedule
from tests.chaos.stand_ins import CLASSES, POOL_SIZE, draw_started
from tests.examples import examples

SCHEDULES = 400
_SEEDS_TO_FIND_A_MUTANT = 1_000

which = st.integers(0, 20)
who = st.integers(0, 2 * MEMBERS_MAX - 1)
labels = st.lists(st.tuples(st.integers(0, POOL_SIZE - 1), st.integers(0, len(CLASSES))), max_size=3)


class RunUnderFaults(RuleBasedStateMachine):
    """Every move of the simulated world, in any order; then calm, in which the run must end correctly."""

    world: World | None = None

    @initialize(seed=st.integers(0, 2**32), trainers=st.integers(1, MEMBERS_MAX), oracles=st.integers(1, MEMBERS_MAX))
    def begin(self, seed: int, trainers: int, oracles: int) -> None:
        self.world = World(draw_started(Random(seed)), trainers, oracles)

    @property
    def _world(self) -> World:
        assert self.world is not None
        return self.world

    @rule(who=who, count=st.integers(1, 6))
    def deliver(self, who: int, count: int) -> None:
        self._world.deliver(who, count)

    @rule(count=st.integers(1, 6))
    def deliver_to_all(self, count: int) -> None:
        for place in range(len(self._world.members)):
            self._world.deliver(place, count)

    @rule(which=which)
    def arrive(self, which: int) -> None:
        self._world.arrive(which)

    @rule(which=which)
    def acknowledge(self, which: int) -> None:
        self._world.acknowledge(which)

    @rule(which=which)
    def finish_work(self, which: int) -> None:
        self._world.finish_work(which)

    @rule(which=which)
    def leave_behind(self, which: int) -> None:
        self._world.leave_behind(which)

    @rule(which=which)
    def lose_write(self, which: int) -> None:
        self._world.lose_write(which)

    @rule(which=which)
    def lose_acknowledgement(self, which: int) -> None:
        self._world.lose_acknowledgement(which)

    @rule(who=who, lose=st.booleans())
    def kill(self, who: int, lose: bool) -> None:
        self._world.kill(who, lose=lose)

    @rule(who=who)
    def start(self, who: int) -> None:
        self._world.start(who)

    @rule(who=who, other=who, there=st.booleans())
    def hear(self, who: int, other: int, there: bool) -> None:
        self._world.hear(who, other, there=there)

    @rule(who=who, count=st.integers(1, 6))
    def repeat(self, who: int, count: int) -> None:
        self._world.repeat(who, count)

    @rule(who=who)
    def cancel(self, who: int) -> None:
        self._world.cancel(who)

    @rule(who=who, shown_by=who, last=st.booleans())
    def label_what_is_shown(self, who: int, shown_by: int, last: bool) -> None:
        shown = self._world.open_samples(shown_by)
        given = [(sample_id, sample_id % len(CLASSES)) for sample_id in shown]
        self._world.submit(who, given[-1:] if last else given, "shown")

    @rule(who=who, labels=labels)
    def label_anything(self, who: int, labels: list[tuple[int, int]]) -> None:
        self._world.submit(who, labels, "anything")

    @rule(who=who, sample_id=st.integers(0, POOL_SIZE - 1), label=st.none() | st.integers(0, 2), revision=which)
    def say_anew(self, who: int, sample_id: int, label: int | None, revision: int) -> None:
        self._world.say_anew(who, sample_id, label, revision)

    @invariant()
    def the_budget_holds(self) -> None:
        if self.world is not None:
            audit = self.world.audit
            assert len(audit.paid) <= self.world.started.spec.label_budget + len(audit.revised)

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self.world.calm_down(Random(0))
        finally:
            self.world.close()


TestRunUnderFaults = RunUnderFaults.TestCase
TestRunUnderFaults.settings = settings(
    max_examples=examples(200),
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_no_schedule_breaks_a_run() -> None:
    for seed in range(SCHEDULES):
        run_schedule(seed)


def test_schedules_are_reproducible() -> None:
    def log_of(seed: int) -> list[bytes]:
        schedule = Schedule(seed)
        schedule.run()
        schedule.world.close()
        return [event.SerializeToString(deterministic=True) for event in schedule.world.events]

    assert log_of(7) == log_of(7)


def _is_found(parts: Parts, said: str) -> bool:
    for seed in range(_SEEDS_TO_FIND_A_MUTANT):
        try:
            run_schedule(seed, parts)
        except AssertionError as error:
            if said in str(error):
                return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_mutant_is_detected(mutant: str) -> None:
    assert _is_found(*MUTANTS[mutant])


def test_no_slot_waits_for_a_day_because_one_worker_takes_two_of_a_sample() -> None:
    for seed in range(100):
        FewWorkers(seed, Leases()).run()


def test_a_slot_that_waits_after_a_refusal_is_detected() -> None:
    found = 0
    for seed in range(20):
        try:
            FewWorkers(seed, LeasesThatLast()).run()
        except Violation:
            found += 1
    assert found


def calm_log() -> list[Event]:
    """The events of a run without faults: two batches of two labels, then two auto-labels."""
    spec = RunSpec(
        strategy=Strategy.STRATEGY_MARGIN,
        first_strategy=Strategy.STRATEGY_RANDOM,
        batch_size=2,
        label_budget=4,
        auto_label_batch_size=2,
        auto_label_budget=2,
        label_source=LabelSource.LABEL_SOURCE_DATASET,
        protocol=Protocol.PROTOCOL_HONEST,
        report_every=1,
    )
    world = World(RunStarted(spec=spec), trainers=1, oracles=1)
    world.calm_down(Random(0))
    world.close()
    return [Event.FromString(event.SerializeToString()) for event in world.events]


def kinds(events: list[Event]) -> list[str]:
    return [event.WhichOneof("payload") or "" for event in events]


def first(events: list[Event], kind: str) -> Event:
    return events[kinds(events).index(kind)]


def _swap(events: list[Event], i: int, j: int) -> None:
    events[i], events[j] = events[j], events[i]


def _change(kind: str, change: Callable[[Event], None]) -> Callable[[list[Event]], None]:
    return lambda events: change(first(events, kind))


def _set(kind: str, field: str, value: int) -> Callable[[list[Event]], None]:
    return _change(kind, lambda event: setattr(getattr(event, kind), field, value))


def _ask_again(events: list[Event]) -> None:
    batches = [event.labels_requested for event in events if event.HasField("labels_requested")]
    batches[1].sample_ids[0] = batches[0].sample_ids[0]


def _train_without_news(events: list[Event]) -> None:
    again = Event.FromString(first(events, "model_trained").SerializeToString())
    again.round += 1
    events.insert(kinds(events).index("model_trained") + 1, again)


ILLEGAL: dict[str, tuple[Callable[[list[Event]], None], str]] = {
    "an event before the start": (lambda events: _swap(events, 0, 1), "comes before run_started"),
    "an event twice": (lambda events: events.append(events[4]), "stands already"),
    "a label before it is asked for": (lambda events: _swap(events, 2, 3), "did not ask for"),
    "a label of another round": (_change("label_provided", lambda e: setattr(e, "round", 1)), "did not ask for"),
    "a label of another sample": (_set("label_provided", "sample_id", 29), "did not ask for"),
    "a label outside the classes": (_set("label_provided", "label", 3), "class 3 of 3"),
    "a label again": (_set("label_provided", "revision", 1), "the next revision"),
    "a batch too large": (
        _change("labels_requested", lambda e: e.labels_requested.sample_ids.append(29)),
        "chooses 3 samples where 2 are wanted",
    ),
    "a sample asked for again": (_ask_again, "again"),
    "a batch while one is open": (lambda events: _swap(events, 4, 6), "comes where the run wants Wait"),
    "a round left out": (_change("model_trained", lambda e: setattr(e, "round", 2)), "belongs to round 1"),
    "a model of other labels": (_set("model_trained", "labels", 1), "saw 1 labels"),
    "a model of nothing new": (_train_without_news, "comes where the run wants RequestLabels"),
    "an end too early": (lambda events: events.insert(3, events.pop()), "comes where the run wants Wait"),
    "an event after the end": (lambda events: _swap(events, -1, -2), "comes where the run wants"),
    "a failure for want of a pool": (lambda events: events.insert(2, failed()), "fails though its pool is published"),
    "a failure while a batch is open": (lambda events: events.insert(3, failed(1)), "where nothing is to be done"),
    "a failure of a round to come": (lambda events: events.insert(2, failed(2)), "where 1 is next"),
}


def failed(round_: int = 0) -> Event:
    event = Event(run_id="run", round=round_)
    event.run_failed.reason = "NO"
    return event


@pytest.mark.parametrize("illegal", ILLEGAL)
def test_illegal_histories_are_reported(illegal: str) -> None:
    spoil, said = ILLEGAL[illegal]
    events = calm_log()
    assert faults(events) == []
    spoil(events)
    assert any(said in fault for fault in faults(events)), faults(events)
