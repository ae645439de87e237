"""Deadlines of requests and answers."""

from __future__ import annotations

import pytest
from labelloop.http.deadlines import Deadlines, Progress

LIMITS = Deadlines(header_s=10, body_s=20, read_s=30, bytes_per_s=100)


@pytest.mark.parametrize(
    ("progress", "now_s", "fault"),
    [
        (Progress(), 1e9, ""),
        (Progress(header_since=5), 15, ""),
        (Progress(header_since=5), 15.1, "header"),
        (Progress(body_since=5), 25.1, "body"),
        (Progress(body_since=5, body_bytes=1_000), 35, ""),
        (Progress(body_since=5, body_bytes=1_000), 35.1, "body"),
        (Progress(unread_since=0, unread=100), 31.1, "read"),
        (Progress(header_since=0, unread_since=0, unread=100), 5, ""),
    ],
)
def test_each_part_of_an_exchange_has_a_deadline(progress: Progress, now_s: float, fault: str) -> None:
    assert LIMITS.fault(progress, now_s) == fault


def test_an_answer_counts_as_unread_until_all_of_it_is_read() -> None:
    progress = Progress()
    for now_s, size in ((1.0, 500), (2.0, 900), (3.0, 100)):
        progress.unread_now(size, now_s)
    assert (progress.unread_since, progress.unread) == (1.0, 900)
    progress.unread_now(0, 4.0)
    assert (progress.unread_since, progress.unread) == (None, 0)
