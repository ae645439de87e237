"""The limit of open descriptors, and its share for one listener."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from labelloop.runtime import descriptors
from labelloop.runtime.descriptors import listener_budget

_RAISE = "from labelloop.runtime.descriptors import raise_descriptor_limit; print(raise_descriptor_limit())"


@pytest.mark.parametrize(("soft", "hard"), [(100, 400), (300, 300)])
def test_the_limit_is_raised_to_the_hard_limit(soft: int, hard: int) -> None:
    command = f"ulimit -S -n {soft} && ulimit -H -n {hard} && exec {sys.executable} -c '{_RAISE}'"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{hard}\n"


def test_a_limit_that_cannot_be_raised_is_said_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise OSError("not on this system")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1_000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_descriptor_limit() == 256


@pytest.mark.parametrize(("limit", "budget"), [(1_000_000, 1_000), (1_000, 250), (2, 1)])
def test_one_listener_gets_a_quarter_at_most(monkeypatch: pytest.MonkeyPatch, limit: int, budget: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    assert listener_budget(1_000) == budget
