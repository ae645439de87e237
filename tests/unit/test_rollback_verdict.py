"""When a message that was read counts as taken back by the broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from labelloop.errors import LogRolledBack
from labelloop.eventlog.rollback_guard import RollbackGuard
from labelloop.eventlog.rollback_verdict import Verdict
from labelloop.eventlog.stream_leaders import Answers, Held
from nats.js.errors import NotFoundError

SEQUENCE = 7
READ, ANOTHER = ("subject", b"read"), ("subject", b"another")


def said(*held: Held, last: int = SEQUENCE, replicated: bool = True) -> Answers:
    return Answers([last] * len(held), held, replicated)


def verdicts(*looks: tuple[float, Answers]) -> list[bool | None]:
    verdict = Verdict(SEQUENCE, READ)
    return [verdict.weigh(answers, at_s) for at_s, answers in looks]


def test_a_message_that_all_leaders_hold_was_not_taken_back() -> None:
    assert verdicts((0, said(READ)))[-1] is False
    assert verdicts((0, said(READ, READ)))[-1] is False


@pytest.mark.parametrize("instead", [ANOTHER, None])
def test_it_was_once_another_answer_stays_the_same_for_two_seconds(instead: Held) -> None:
    assert verdicts((0, said(instead)), (1.9, said(instead)), (2, said(instead))) == [None, None, True]


def test_a_leader_that_has_yet_to_reach_the_sequence_proves_nothing() -> None:
    behind = said(None, last=SEQUENCE - 1)
    assert verdicts((0, behind), (9, behind), (9.5, said(READ))) == [None, None, False]


def test_a_leader_that_still_applies_messages_is_waited_for() -> None:
    looks = [(5.0 * at, said(None, last=at)) for at in range(SEQUENCE)]
    assert set(verdicts(*looks)) == {None}


def test_a_stream_that_ends_before_the_message_and_does_not_grow_lost_it() -> None:
    ends = said(None, last=SEQUENCE - 1)
    assert verdicts((0, ends), (9.9, ends), (10, ends)) == [None, None, True]


def test_the_only_node_of_a_stream_has_nothing_left_to_apply() -> None:
    ends = said(None, last=SEQUENCE - 1, replicated=False)
    assert verdicts((0, ends), (2, ends)) == [None, True]


def test_nothing_is_concluded_while_leaders_disagree() -> None:
    two = said(READ, ANOTHER)
    assert verdicts((0, two), (5, two), (5.5, said(ANOTHER)), (7, said(ANOTHER)), (8, said(ANOTHER))) == [
        None,
        None,
        None,
        None,
        True,
    ]


def test_a_silent_broker_starts_the_two_seconds_anew() -> None:
    silent = Answers([], [], False)
    looks = [(0, said(ANOTHER)), (1, silent), (2, said(ANOTHER)), (3.9, said(ANOTHER)), (4, said(ANOTHER))]
    assert verdicts(*looks) == [None, None, None, None, True]


def test_an_answer_that_changes_starts_the_two_seconds_anew() -> None:
    assert verdicts((0, said(None)), (1, said(ANOTHER)), (2, said(ANOTHER)), (3, said(ANOTHER)))[1:] == [
        None,
        None,
        True,
    ]


class Stream:
    """Has not got the message when it is first asked; ``later`` is what its leaders hold then."""

    def __init__(self, later: Held) -> None:
        self.later, self.questions = later, 0

    async def get_msg(self, stream: str, sequence: int, **options: Any) -> Any:
        raise NotFoundError(code=404, err_code=10037)

    async def ask(self, sequence: int) -> Answers:
        self.questions += 1
        if self.questions == 1:
            return said(None, last=SEQUENCE - 1)
        return said(self.later, last=SEQUENCE, replicated=False)


def guarded(stream: Stream) -> RollbackGuard:
    guard = RollbackGuard(cast(Any, stream), "STREAM", stream)
    sequence = SimpleNamespace(stream=SEQUENCE)
    message = SimpleNamespace(metadata=SimpleNamespace(sequence=sequence), subject=READ[0], data=READ[1])
    guard.record(cast(Any, message))
    guard.suspect = True
    return guard


async def test_the_guard_does_not_accuse_a_leader_that_is_behind() -> None:
    guard = guarded(Stream(READ))
    await guard.check()
    assert not guard.suspect


async def test_the_guard_reports_a_message_that_stays_another() -> None:
    guard = guarded(Stream(ANOTHER))
    with pytest.raises(LogRolledBack, match=f"event {SEQUENCE}"):
        await guard.check()
    assert guard.suspect
