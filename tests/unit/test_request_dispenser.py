"""Which requests of a sample may be leased while others hold leases of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from labelloop.domain.ids import LeaseKey
from labelloop.events.v1.events_pb2 import Event, GoldSample
from labelloop.oracle.v1.oracle_pb2 import LabelRequest

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.open_requests import OpenRequest, for_tool, request_of
from oracle_svc.lease_table import Lease, LeaseTable
from oracle_svc.request_dispenser import RequestDispenser, person, tool_holder
from tests.unit.test_labeling_state import begun, say

TOOL = tool_holder("tool")


class LocalLeases(LeaseTable):
    """Leases without a broker. ``meanwhile`` is called once between the check of a lease and its write."""

    def __init__(self) -> None:
        self.time_s = 1_000.0
        super().__init__(lambda: self.time_s)
        self.sequence = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def take(self, key: LeaseKey, holder: str, for_s: float) -> float:
        if self.holder(key) not in ("", holder):
            return 0.0
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        self.write(key, holder, self.time_s + for_s)
        return self.time_s + for_s

    async def release(self, key: LeaseKey, holder: str) -> bool:
        held = self.holder(key) == holder
        if held:
            self.write(key, "", 0.0)
        return held

    async def hand_over(self, key: LeaseKey, holder: str, to: str, for_s: float) -> float:
        if self.holder(key) != holder:
            return 0.0
        self.write(key, to, self.time_s + for_s)
        return self.time_s + for_s

    def write(self, key: LeaseKey, holder: str, expires_at: float) -> None:
        self.sequence += 1
        self.put(key, Lease(holder, expires_at, sequence=self.sequence))


class NoContent:
    """Builds requests without samples' content."""

    async def request(self, labeling: LabelingState, ask: OpenRequest) -> LabelRequest:
        return request_of(labeling, ask, "image/png", "")


class Room:
    """A run, its leases, and the dispenser."""

    def __init__(self, *sample_ids: int, **queue: Any) -> None:
        self.labeling, self.leases = begun(*sample_ids, **queue), LocalLeases()
        self.dispenser = RequestDispenser(self.leases, NoContent())  # type: ignore[arg-type]

    async def give(self, annotator: str, count: int = 10) -> list[str]:
        given = await self.dispenser.lease([self.labeling], annotator, count, 60)
        return [request.request_id for request in given]

    async def push(self, *, whole_samples: bool) -> list[str]:
        """Lease to the tool every request that it may be sent."""
        asks = list(for_tool(self.labeling, whole_samples=whole_samples))
        return [ask.request_id for ask in asks if await self.claim(ask.lease)]

    async def claim(self, lease: LeaseKey) -> float:
        return await self.dispenser.claim(self.labeling, lease, TOOL, 60)

    def say(self, sample_id: int, annotator: str, **answer: Any) -> Event | None:
        return say(self.labeling, sample_id, annotator, **answer)


@pytest.mark.parametrize("whole_samples", [True, False])
async def test_person_gets_no_request_that_a_tool_holds(whole_samples: bool) -> None:
    room = Room(3, 5)
    assert len(await room.push(whole_samples=whole_samples)) == 2
    assert await room.give("kim") == []
    room.leases.time_s += 60
    assert await room.give("kim") == ["r/0/3/0", "r/0/5/0"]


@pytest.mark.parametrize("whole_samples", [True, False])
async def test_tool_gets_no_request_that_a_person_holds(whole_samples: bool) -> None:
    room = Room(3, 5)
    assert await room.give("kim", 1) == ["r/0/3/0"]
    assert [each[:5] for each in await room.push(whole_samples=whole_samples)] == ["r/0/5"]
    assert await room.dispenser.release("kim", ["r/0/3/0"]) == 1
    assert [each[:5] for each in await room.push(whole_samples=whole_samples)] == ["r/0/3", "r/0/5"]


@pytest.mark.parametrize("whole_samples", [True, False])
async def test_withdrawn_sample_is_leased_to_one_holder_at_a_time(whole_samples: bool) -> None:
    room = Room(3, 5)
    assert await room.give("kim", 1) == ["r/0/3/0"]
    room.say(3, "kim", label=1)
    room.say(3, "kim", withdrawn=True, revision=1)
    assert len(await room.push(whole_samples=whole_samples)) == 2, "kim's lease was of a request that is answered"
    assert await room.give("kim") == await room.give("lee") == []
    room.leases.time_s += 60
    assert await room.give("lee") == ["r/0/5/0", "r/0/3/0"]
    assert await room.push(whole_samples=whole_samples) == []
    assert await room.dispenser.release("lee", ["r/0/3/0"]) == 1


async def test_the_slots_of_a_sample_are_leased_to_several_annotators() -> None:
    room = Room(3, annotators=2)
    assert await room.give("kim") == ["r/0/3/0"]
    assert await room.give("kim") == ["r/0/3/0"], "the same one again"
    assert await room.give("lee") == ["r/0/3/1"]
    assert await room.give("pat") == []


async def test_a_tool_and_a_person_share_the_slots_of_a_sample() -> None:
    room = Room(3, annotators=3)
    await room.give("kim")
    assert await room.push(whole_samples=False) == ["r/0/3/1", "r/0/3/2"]
    assert await room.give("lee") == []


async def test_a_tool_that_asks_all_annotators_waits_until_no_slot_is_held() -> None:
    room = Room(3, annotators=3)
    await room.give("kim")
    await room.give("lee")
    assert await room.push(whole_samples=True) == []
    room.say(3, "kim", label=1)
    assert await room.push(whole_samples=True) == [], "lee's slot is still held"
    room.say(3, "lee", label=1)
    assert await room.push(whole_samples=True) == ["r/0/3"], "nobody works on the sample any more"
    assert await room.give("pat") == []


async def test_tool_that_asks_for_more_annotators_is_not_blocked_by_its_own_lease() -> None:
    room = Room(3, annotators=2)
    assert await room.push(whole_samples=True) == ["r/0/3"]
    room.say(3, "kim", label=1)
    room.say(3, "lee", label=2)
    assert await room.push(whole_samples=True) == ["r/0/3"]


async def test_first_of_two_concurrent_leases_of_a_sample_wins() -> None:
    room = Room(3)
    slot, whole = LeaseKey.parse("r.0.3.0"), LeaseKey.parse("r.0.3.of1")
    room.leases.meanwhile = lambda: room.leases.write(slot, person("kim"), room.leases.time_s + 60)
    assert await room.claim(whole) == 0.0
    assert room.leases.held_of_sample(whole.request) == [slot]
    assert await room.give("kim") == ["r/0/3/0"]


async def test_concurrent_claims_of_a_sample_have_one_winner() -> None:
    room = Room(3)
    person_gets, tool_gets = await asyncio.gather(room.give("kim"), room.push(whole_samples=True))
    assert len(person_gets) + len(tool_gets) == 1


async def test_leased_samples_are_counted_once_and_only_while_unanswered() -> None:
    room = Room(3, 5, annotators=2)
    await room.give("kim")
    await room.give("lee", 1)
    assert room.dispenser.leased_count(room.labeling) == 2
    room.say(5, "kim", label=1)
    assert room.dispenser.leased_count(room.labeling) == 1


async def test_annotator_gets_a_withdrawn_request_back_first_and_releases_it_once() -> None:
    room = Room(3, 5, 7)
    assert await room.give("kim", 1) == ["r/0/3/0"]
    room.say(3, "kim", label=1)
    room.say(3, "kim", withdrawn=True, revision=1)
    assert await room.give("kim", 1) == ["r/0/3/0"], "others are open, and were requested earlier"
    assert await room.dispenser.release("kim", ["r/0/3/0"]) == 1
    assert room.leases.held_by(person("kim"), "r") == []


async def test_release_counts_only_requests_that_the_annotator_holds() -> None:
    room = Room(3, 5)
    await room.give("kim", 1)
    assert await room.dispenser.release("lee", ["r/0/3/0"]) == 0
    assert await room.dispenser.release("kim", ["r/0/3/0", "r/0/3/0", "r/0/5/0"]) == 1


async def test_nobody_waits_with_nothing_while_another_holds_more_than_a_share() -> None:
    """Of a batch of 8, two people hold all when a third one comes, and more after that."""
    room = Room(*range(8))
    first = await room.give("kim", 8)
    assert len(first) == 8
    assert await room.give("lee", 4) == [first[7]], "the one that kim would come to last"
    assert await room.give("lee", 4) == [first[7]], "lee has something to do"
    assert await room.give("kim", 8) == first[:7]
    assert await room.give("pat", 4) == [first[6]]
    for number in range(5):
        assert await room.give(f"a{number}", 4), "everybody has one"
    assert await room.give("one more", 4) == []
    assert await room.give("kim", 8) == first[:1], "which kim is working on"


async def test_an_annotator_is_given_no_more_than_a_share() -> None:
    room = Room(*range(8))
    assert len(await room.give("kim", 2)) == 2
    assert len(await room.give("lee", 8)) == 4
    assert len(await room.give("pat", 8)) == 2, "what is left"
    assert len(await room.give("kim", 8)) == 2
    assert await room.dispenser.release("lee", [f"r/0/{each}/0" for each in range(8)]) == 4
    assert len(await room.give("kim", 8)) == 4, "half of what is open"


async def test_gold_samples_do_not_count_to_the_share() -> None:
    room = Room(0, 1, 2, 3, gold=[GoldSample(sample_id=9, label=2)])
    assert len(await room.give("kim", 8)) == 5
    assert await room.give("lee", 8) == ["r/0/3/0"]
    room.say(9, "kim", label=2)
    assert await room.give("pat", 8) == ["r/0/9/1", "r/0/2/0"]


async def test_no_slot_is_taken_over_by_who_has_answered_another_one() -> None:
    room = Room(0, 1, annotators=2)
    assert await room.give("kim", 1) == ["r/0/0/0"]
    room.say(0, "kim", label=1)
    assert await room.give("lee", 4) == ["r/0/0/1", "r/0/1/0"]
    assert await room.give("kim", 4) == ["r/0/1/1"]
    assert await room.give("pat", 4) == ["r/0/1/0"], "which lee would come to last"
    assert await room.give("max", 4) == []


async def test_two_tabs_of_one_annotator_share_their_leases() -> None:
    room = Room(3, 5, 7)
    tabs = await asyncio.gather(room.give("kim", 2), room.give("kim", 2))
    assert list(tabs) == [["r/0/3/0", "r/0/5/0"]] * 2
