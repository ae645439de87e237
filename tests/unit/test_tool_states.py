"""Since when and why a tool is away."""

from __future__ import annotations

from labelloop.domain.hold_ups import PROBLEM_CHARS

from oracle_svc.domain.tool_states import ToolStates
from oracle_svc.metrics import tool_gauges


def test_a_tool_is_away_from_its_first_failure_until_it_works() -> None:
    clock = [10.0]
    states = ToolStates(lambda: clock[0])
    states.note("amqp", "requests", "refused")
    clock[0] = 20.0
    states.note("amqp", "requests", "it timed out")
    states.note("amqp", "results", "refused")
    assert [(each.direction, each.since, each.problem) for each in states.away()] == [
        ("requests", 10.0, "it timed out"),
        ("results", 20.0, "refused"),
    ]
    states.note("amqp", "requests")
    assert [each.direction for each in states.away()] == ["results"]
    clock[0] = 30.0
    states.note("amqp", "requests", "refused")
    assert {each.direction: each.since for each in states.away()} == {"results": 20.0, "requests": 30.0}


def test_problems_are_one_short_line_without_credentials() -> None:
    states = ToolStates()
    states.note("amqp", "results", "no way to\n amqp://user:secret@host:5672/ now" + " and so on" * 1_000)
    [away] = states.away()
    assert "secret" not in away.problem
    assert away.problem.startswith("no way to amqp://...@host:5672/ now")
    assert len(away.problem) == PROBLEM_CHARS


def test_the_gauge_has_every_direction_of_every_connected_tool() -> None:
    states = ToolStates()
    states.note("webhook", "retractions", "gone")
    [family] = tool_gauges(states, ["nats", "webhook"])
    found = {(each.labels["tool"], each.labels["direction"]): each.value for each in family.samples}
    assert len(found) == 6
    assert [key for key, value in found.items() if value] == [("webhook", "retractions")]
