"""What holds up runs and tools, by service and replica."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from labelloop.domain.hold_ups import HOLD_UPS_MAX, PROBLEM_CHARS, SILENT_S, HoldUp, HoldUps, merged, message_of, said

STORE = HoldUp("oracle", "there is no bucket", 5.0, "r")
AWAY = HoldUp("oracle", "refused", 7.0, tool="webhook", direction="requests")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_run_is_held_up_by_its_own_problems_and_those_of_its_tool() -> None:
    hold_ups = HoldUps()
    assert hold_ups.hear("oracle", "a", [STORE, AWAY]) == {STORE, AWAY}
    assert hold_ups.of_run("r", "webhook") == [STORE, AWAY]
    assert hold_ups.of_run("r", "nats") == hold_ups.of_run("r") == [STORE]
    assert hold_ups.of_run("other") == []
    assert hold_ups.of_tools() == [AWAY]


def test_a_report_replaces_the_one_before() -> None:
    hold_ups = HoldUps()
    hold_ups.hear("oracle", "a", [STORE, AWAY])
    assert hold_ups.hear("oracle", "a", [STORE, AWAY]) == set()
    assert hold_ups.hear("oracle", "a", [STORE]) == {AWAY}
    assert hold_ups.hear("oracle", "a", []) == {STORE}
    assert hold_ups.of_run("r", "webhook") == []


def test_what_a_replica_reported_ends_once_it_is_silent() -> None:
    clock = Clock()
    hold_ups = HoldUps(clock)
    hold_ups.hear("oracle", "dead", [AWAY])
    clock.now += SILENT_S
    hold_ups.hear("oracle", "alive", [STORE])
    assert hold_ups.look() == set()
    clock.now += 0.1
    assert hold_ups.look() == {AWAY}
    assert (hold_ups.of_tools(), hold_ups.of_run("r")) == ([], [STORE])


def test_what_two_replicas_report_alike_is_told_once_with_the_earlier_time() -> None:
    later = replace(AWAY, since=9.0, problem="it timed out")
    results = replace(AWAY, direction="results")
    assert merged([later, AWAY, results, STORE, replace(STORE, since=6.0)]) == [STORE, AWAY, results]


def test_reports_and_reporters_are_bounded() -> None:
    hold_ups = HoldUps()
    many = [replace(STORE, run_id=f"r{number}") for number in range(HOLD_UPS_MAX + 10)]
    assert len(hold_ups.hear("oracle", "a", many)) == HOLD_UPS_MAX
    for number in range(1_000):
        hold_ups.hear("scorer", f"s{number}", [replace(STORE, problem=str(number))])
    assert len(hold_ups.of_run("r")) < 200


def test_other_services_are_named_and_long_steps_left_out() -> None:
    step = HoldUp("trainer", "the scorers fetch the pool", 1.0, "r", at_work=True)
    own = HoldUp("trainer", "no scorer", 2.0, "r")
    assert said([step, own, STORE, AWAY], "trainer") == (
        "no scorer; oracle: there is no bucket; oracle: webhook is away (requests): refused"
    )
    assert said([step]) == ""


@pytest.mark.parametrize("each", [STORE, AWAY])
def test_clients_receive_all_of_it_and_no_more_than_fits(each: HoldUp) -> None:
    message = message_of(replace(each, problem="x" * 10_000))
    assert message.problem == "x" * PROBLEM_CHARS
    assert message.since.ToDatetime(UTC) == datetime.fromtimestamp(each.since, UTC)
    assert (message.service, message.tool, message.direction) == (each.service, each.tool, each.direction)
