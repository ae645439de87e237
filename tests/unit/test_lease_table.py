"""When leases end, in memory."""

from __future__ import annotations

from math import inf

import pytest
from labelloop.domain.ids import LeaseKey

from oracle_svc.lease_table import Lease, LeaseTable
from oracle_svc.leases import _lease

KEY = LeaseKey.parse("r.0.7.0")


def table(lease: Lease, now_s: float, resend_s: float) -> LeaseTable:
    made = LeaseTable(lambda: now_s, resend_s)
    made.put(KEY, lease)
    return made


@pytest.mark.parametrize(
    ("lease", "resend_s", "ends_s"),
    [
        (Lease("tool:t", 500.0), 60.0, 500.0),
        (Lease("tool:t", 500.0, pushed_at=100.0), 60.0, 160.0),
        (Lease("tool:t", 500.0, pushed_at=100.0), 9000.0, 9100.0),
        (Lease("tool:t", 500.0, pushed_at=100.0, dropped_at=400.0), 9000.0, 400.0),
        (Lease("tool:t", 500.0, pushed_at=100.0, dropped_at=400.0), 60.0, 160.0),
    ],
)
def test_a_request_that_a_tool_took_is_held_by_the_setting_of_now(lease: Lease, resend_s: float, ends_s: float) -> None:
    assert table(lease, ends_s - 1, resend_s).holder(KEY) == "tool:t"
    assert table(lease, ends_s - 1, resend_s).ends_in_s("tool:t") == 1
    assert table(lease, ends_s, resend_s).holder(KEY) == ""
    assert table(lease, ends_s, resend_s).ends_in_s("tool:t") == inf


def test_a_lease_of_an_earlier_release_ends_when_it_says() -> None:
    data = b'{"holder": "tool:t", "expires_at": 500.0, "pushes": 2, "counted": true}'
    lease = _lease(data, 9)
    assert (lease.ends_at(60.0), lease.attempt, lease.next_revision) == (500.0, 1, 0)
    assert _lease(data[:-1] + b', "of_a_later_release": 1}', 9) == lease


@pytest.mark.parametrize(
    ("lease", "attempt"),
    [
        (Lease("", 0.0), 0),
        (Lease("tool:t", 9.0), 0),
        (Lease("tool:t", 9.0, pushes=1, counted=True), 0),
        (Lease("tool:t", 9.0, pushes=1), 1),
        (Lease("", 0.0, pushes=2), 1),
    ],
    ids=["never pushed", "being pushed", "pushed", "being pushed again", "released"],
)
def test_the_attempt_is_that_of_the_newest_push(lease: Lease, attempt: int) -> None:
    assert lease.attempt == attempt
