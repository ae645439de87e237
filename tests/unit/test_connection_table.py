"""Limits of connections: how many there may be, and which is closed for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.runtime.client_addresses import client_group
from labelloop.runtime.connection_table import ConnectionTable

GROUPS = ["a", "b", "c", None]


def filled(most: int, most_of_one: int | None, groups: str) -> ConnectionTable[int]:
    table = ConnectionTable[int](most, most_of_one)
    for number, group in enumerate(groups):
        table.add(number, group)
    return table


def test_the_connection_that_has_waited_longest_makes_room() -> None:
    assert filled(3, None, "abc").room_for("d") == (True, 0)


def test_a_connection_that_is_answered_stays() -> None:
    table = filled(3, None, "abc")
    table.works(0)
    assert table.room_for("d") == (True, 1)
    table.waits(0)
    table.works(1)
    assert table.room_for("d") == (True, 2)


def test_nothing_is_let_in_where_all_are_answered() -> None:
    table = filled(2, None, "ab")
    table.works(0)
    table.works(1)
    assert table.room_for("c") == (False, None)
    table.remove(1)
    assert table.room_for("c") == (True, None)


def test_an_address_with_too_many_makes_room_among_its_own() -> None:
    assert filled(9, 2, "abb").room_for("b") == (True, 1)
    assert filled(9, 2, "abb").room_for("a") == (True, None)


def test_exempt_clients_are_limited_together_alone() -> None:
    table = ConnectionTable[int](4, 2)
    for number in range(4):
        table.add(number, None)
    assert table.room_for(None) == (True, 0)


@given(st.lists(st.tuples(st.sampled_from(["open", "work", "wait", "leave"]), st.integers(0, 30))), st.integers(1, 4))
def test_limits_hold_whatever_happens(steps: list[tuple[str, int]], most_of_one: int) -> None:
    table, there = ConnectionTable[int](6, most_of_one), dict[int, str | None]()
    for step, number in steps:
        if step == "open" and number not in there:
            group = GROUPS[number % len(GROUPS)]
            free, displaced = table.room_for(group)
            if displaced is not None:
                table.remove(displaced)
                del there[displaced]
            if free:
                table.add(number, group)
                there[number] = group
        elif step == "work":
            table.works(number)
        elif step == "wait":
            table.waits(number)
        elif step == "leave":
            table.remove(number)
            there.pop(number, None)
        assert sorted(table) == sorted(there)
        assert len(table) <= 6
        assert all(list(there.values()).count(group) <= most_of_one for group in GROUPS[:-1])


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_addresses_of_one_subscriber_are_one_group(address: str, group: str) -> None:
    assert client_group(address) == group
