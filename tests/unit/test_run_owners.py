"""Which replica advances which run, on a clock that the test sets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from labelloop.domain.run_owners import HELD_UP_S, SILENT_S, Heartbeat, RunOwners

RUNS = [f"run-{number}" for number in range(300)]
STEP_S = SILENT_S / 6


@dataclass
class Replicas:
    """Replicas that hear each other's heartbeats, but for those that are ``silent``; all apply ``sequence``."""

    names: str
    seconds: float = 0.0
    sequence: int = 0
    silent: set[str] = field(default_factory=set)
    owners: dict[str, RunOwners] = field(init=False)

    def __post_init__(self) -> None:
        self.owners = {name: RunOwners(name, lambda: self.seconds) for name in self.names}
        self.tell()

    def tell(self) -> None:
        for name, owners in self.owners.items():
            for other in self.owners.values():
                if name not in self.silent:
                    other.hear(owners.heartbeat(self.sequence))

    def wait(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds += STEP_S
            self.tell()
            for owners in self.owners.values():
                owners.look(self.sequence, hearing=True)

    def owner(self, run_id: str) -> str:
        """The owner of a run in the view of all replicas that are not silent; several names if they differ."""
        return "".join(n for n, owners in self.owners.items() if n not in self.silent and owners.mine(run_id))


def test_a_replica_alone_owns_every_run() -> None:
    owners = RunOwners("a")
    assert all(map(owners.mine, RUNS))
    assert owners.problem("run-0") == ""


def test_each_run_has_one_owner_and_runs_are_spread() -> None:
    replicas = Replicas("abc")
    shares = Counter(map(replicas.owner, RUNS))
    assert set(shares) == set("abc")
    assert min(shares.values()) > len(RUNS) / 5


def test_a_replica_that_falls_silent_loses_its_runs_and_no_other_run_moves() -> None:
    replicas = Replicas("abc")
    before = {run_id: replicas.owner(run_id) for run_id in RUNS}
    replicas.silent.add("b")
    replicas.wait(SILENT_S - STEP_S)
    assert not replicas.owners["a"].mine(next(run_id for run_id, owner in before.items() if owner == "b"))
    replicas.wait(2 * STEP_S)
    after = {run_id: replicas.owner(run_id) for run_id in RUNS}
    assert {run_id for run_id in RUNS if after[run_id] != before[run_id]} == {r for r in RUNS if before[r] == "b"}
    assert set(after.values()) == {"a", "c"}


def test_a_replica_that_leaves_is_followed_at_once() -> None:
    replicas = Replicas("ab")
    assert replicas.owners["a"].leave("b")
    assert all(map(replicas.owners["a"].mine, RUNS))
    assert not replicas.owners["a"].leave("b")


def test_a_look_says_whether_owners_may_have_changed() -> None:
    replicas = Replicas("ab")
    one = replicas.owners["a"]
    assert not one.hear(Heartbeat("b"))
    assert one.hear(Heartbeat("c"))
    looks = []
    while replicas.seconds < 2 * SILENT_S:
        replicas.seconds += STEP_S
        looks.append(one.look(0, hearing=True))
    assert looks.count(True) == 1
    assert all(map(one.mine, RUNS))


@pytest.mark.parametrize("how", ["not connected", "paused"])
def test_silence_that_proves_nothing_takes_no_run_from_others(how: str) -> None:
    replicas = Replicas("ab")
    one = replicas.owners["a"]
    theirs = [run_id for run_id in RUNS if not one.mine(run_id)]
    steps = [STEP_S] * 20 if how == "not connected" else [20 * STEP_S]
    for step in steps:
        replicas.seconds += step
        assert not one.look(0, hearing=how == "paused")
    assert not any(map(one.mine, theirs))


def test_a_run_that_fails_at_its_owner_goes_to_another_and_comes_back_later() -> None:
    replicas = Replicas("abc")
    first = replicas.owner("run-0")
    replicas.owners[first].hold_up("run-0", "no disk")
    replicas.tell()
    second = replicas.owner("run-0")
    assert second in set("abc") - {first}
    replicas.wait(HELD_UP_S + 2 * STEP_S)
    assert replicas.owner("run-0") == first


def test_a_run_that_fails_everywhere_stays_with_its_owner_and_all_know_why() -> None:
    replicas = Replicas("abc")
    first = replicas.owner("run-0")
    for name, owners in replicas.owners.items():
        owners.hold_up("run-0", f"no scorer for {name}")
    replicas.tell()
    assert replicas.owner("run-0") == first
    others = [owners for name, owners in replicas.owners.items() if name != first]
    assert {owners.problem("run-0") for owners in others} == {f"no scorer for {first}"}
    replicas.owners[first].go_on("run-0")
    replicas.tell()
    assert {owners.problem("run-0") for owners in others} == {""}


def test_a_replica_that_follows_the_log_no_longer_loses_its_runs() -> None:
    replicas = Replicas("ab")
    one = replicas.owners["a"]
    for step in range(40):
        replicas.seconds += STEP_S
        one.look(step, hearing=True)
        one.hear(Heartbeat("b", 3))
    assert all(map(one.mine, RUNS))


def test_a_replica_that_is_a_moment_behind_keeps_its_runs() -> None:
    replicas = Replicas("ab")
    one = replicas.owners["a"]
    for step in range(1, 40):
        replicas.seconds += STEP_S
        one.look(step, hearing=True)
        one.hear(Heartbeat("b", step - 1))
    assert not all(map(one.mine, RUNS))


def test_memory_is_bounded_whatever_others_say() -> None:
    one = RunOwners("a")
    for number in range(1_000):
        one.hear(Heartbeat(f"other-{number}"))
        one.hold_up(f"run-{number}", "no")
    assert sum(one.leave(f"other-{number}") for number in range(1_000)) == 64
    assert len(one.heartbeat(0).held_up) == 256


def test_views_that_differ_leave_no_run_without_an_owner_for_good() -> None:
    """Each replica knows the next one only, and one that is dead; silence ends that."""
    replicas = Replicas("abc")
    for name, after in pairwise("abca"):
        for other in set("abc") - {name, after}:
            replicas.owners[name].leave(other)
        replicas.owners[name].hear(Heartbeat("dead"))
    replicas.wait(SILENT_S + 2 * STEP_S)
    assert all(len(replicas.owner(run_id)) == 1 for run_id in RUNS)
