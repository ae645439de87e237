"""``labelloop doctor`` on what services say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from labelloop.diagnostics.v1.diagnostics_pb2 import Broker, DiagnoseResponse, Disk, HeldUpRun, HoldUp, Stream
from labelloop_cli.local.checks import Check
from labelloop_cli.operations.service_answers import Answer, clock_ahead
from labelloop_cli.operations.service_checks import service_checks

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def said(**changes: object) -> DiagnoseResponse:
    """What a trainer says that is well, and ``changes``."""
    response = DiagnoseResponse(
        service="trainer",
        instance="trainer-abc/1",
        version="1.0.0",
        broker=Broker(version="2.12.7", streams=[Stream(name="LABELLOOP", bytes=10**9, replicas=3, current=3)]),
        disks=[Disk(folder="/cache", bytes_free=5 * 10**9, bytes=10**10)],
    )
    response.certificate_ends.FromDatetime(NOW + timedelta(days=60))
    response.MergeFrom(DiagnoseResponse(**changes))  # type: ignore[arg-type]
    return response


def checks(response: DiagnoseResponse, clock: timedelta = timedelta()) -> list[Check]:
    return service_checks([Answer("trainer", "trainer:50051", response, clock=clock)], "1.0.0", NOW)


def only_fault(found: list[Check]) -> Check:
    """The one check that fails; it says what to do."""
    [fault] = [check for check in found if not check.ok]
    assert fault.advice
    return fault


def test_a_service_that_is_well_passes_every_check() -> None:
    found = checks(said())
    assert all(check.ok and not check.advice for check in found)
    assert [(check.name, check.found) for check in found] == [
        ("trainer", "trainer-abc answers, version 1.0.0"),
        ("trainer clock", "as here"),
        ("trainer certificate", "60 days left"),
        ("trainer broker", "nats-server 2.12.7; LABELLOOP 1.0 GB on 3 of 3"),
        ("trainer disk", "5.0 GB of 10.0 GB free at /cache"),
        ("runs", "none is held up"),
    ]


def test_a_tool_that_is_away_is_a_fault() -> None:
    away = HoldUp(service="oracle", problem="refused", tool="webhook", direction="requests")
    away.since.FromSeconds(60)
    found = checks(said(tools_away=[away]))
    assert [check.found for check in found if check.name == "runs"] == [f"none is held up, except by {away.tool}"]
    fault = only_fault(found)
    assert fault.found == "since 1970-01-01 00:01 UTC, webhook is away (requests): refused"


def test_without_tls_there_is_no_certificate_to_check() -> None:
    response = said()
    response.ClearField("certificate_ends")
    assert "trainer certificate" not in [check.name for check in checks(response)]


@pytest.mark.parametrize(
    ("changes", "name", "found"),
    [
        ({"version": "0.9.0"}, "trainer", "version 0.9.0"),
        ({"broker": Broker(problem="no connection")}, "trainer broker", "no connection"),
        ({"disks": [Disk(folder="/pools", bytes_free=10**8, bytes=10**10)]}, "trainer disk", "0.1 GB of 10.0 GB"),
        ({"held_up": [HeldUpRun(run_id="r", problem="it stalls")]}, "run r", "held up: it stalls"),
        (
            {"broker": Broker(streams=[Stream(name="OBJ", bytes=0, replicas=3, current=2)])},
            "trainer broker",
            "OBJ 0.0 GB on 2 of 3",
        ),
    ],
)
def test_what_is_wrong_fails_and_says_what_to_do(changes: dict[str, object], name: str, found: str) -> None:
    fault = only_fault(checks(said(**changes)))
    assert (fault.name, found in fault.found) == (name, True)


@pytest.mark.parametrize(("left", "found"), [(timedelta(days=13), "13 days left"), (-SECOND, "ended at 2026-11-29")])
def test_a_certificate_that_ends_soon_fails(left: timedelta, found: str) -> None:
    response = said()
    response.certificate_ends.FromDatetime(NOW + left)
    fault = only_fault(checks(response))
    assert fault.name == "trainer certificate"
    assert fault.found.startswith(found)


@pytest.mark.parametrize(("ahead", "found"), [(6, "6.0 s ahead of the one here"), (-90, "90.0 s behind the one here")])
def test_clocks_that_differ_fail(ahead: float, found: str) -> None:
    fault = only_fault(checks(said(), ahead * SECOND))
    assert (fault.name, fault.found) == ("trainer clock", found)


def test_clocks_may_differ_a_little() -> None:
    assert all(check.ok for check in checks(said(), 4 * SECOND))


@pytest.mark.parametrize(
    ("theirs", "ahead"),
    [(0, 0), (0.5, 0), (1, 0), (3, 2), (-2, -2)],
    ids=["sent", "between", "received", "late", "early"],
)
def test_the_time_that_an_answer_takes_is_no_difference_of_clocks(theirs: float, ahead: float) -> None:
    assert clock_ahead(NOW, NOW + theirs * SECOND, NOW + SECOND) == ahead * SECOND


def test_a_service_that_does_not_answer_fails() -> None:
    found = service_checks([Answer("oracle", "oracle:50053", problem="connection refused")], "1.0.0", NOW)
    fault = only_fault(found)
    assert fault.found == "oracle:50053 does not answer: connection refused"
    assert "LABELLOOP_ORACLE" in fault.advice


def test_an_address_of_another_service_fails() -> None:
    fault = only_fault(service_checks([Answer("scorer", "trainer:50051", said())], "1.0.0", NOW))
    assert (fault.found, fault.advice) == ("trainer:50051 is the trainer", "set LABELLOOP_SCORER")


def test_a_run_that_two_instances_hold_up_alike_is_named_once() -> None:
    answer = Answer("trainer", "t", said(held_up=[HeldUpRun(run_id="r", problem="it stalls")]))
    assert only_fault(service_checks([answer, answer], "1.0.0", NOW)).name == "run r"
