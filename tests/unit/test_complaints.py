"""Which lines of a service's log count as complaints in the chaos tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from labelloop_cli.local.stack import Service

from tests.chaos.complaints import LogReader, restarts


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service("oracle", tmp_path, {})
    made.log_file.write_text(line("error", "before"))
    return made


def line(level: str, event: str) -> str:
    return json.dumps({"level": level, "event": event}) + "\n"


def add(service: Service, *lines: str) -> None:
    with service.log_file.open("a") as log:
        log.writelines(lines)


def test_only_new_lines_of_level_error_count(service: Service) -> None:
    logs = LogReader([service])
    add(service, line("info", "ready"), line("warning", "slow"), line("error", "bug"))
    assert [found.partition(": ")[2] for found in logs.errors()] == [line("error", "bug").strip()]
    assert logs.errors() == []


def test_events_that_a_fault_explains_do_not_count(service: Service) -> None:
    logs = LogReader([service])
    add(service, line("error", "run_held_up"), line("error", "bug"))
    assert len(logs.errors({"run_held_up"})) == 1


def test_a_traceback_past_the_log_counts_and_notes_of_libraries_do_not(service: Service) -> None:
    logs = LogReader([service])
    add(service, "I1129 14:59:46.294300 chttp2_transport.cc:1403] Got goaway\n", "Traceback (most recent call last):\n")
    assert len(logs.errors()) == 1


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(service: Service) -> None:
    logs, whole = LogReader([service]), line("error", "bug")
    add(service, whole[:10])
    assert logs.errors() == []
    add(service, whole[10:])
    assert len(logs.errors()) == 1


def test_restarts_that_nobody_asked_for_count(service: Service) -> None:
    assert restarts({"oracle": service}) == []
    service.restarts = 2
    assert restarts({"oracle": service}) == ["oracle was restarted 2 times"]
    assert restarts({"oracle": service}, {"oracle"}) == []
