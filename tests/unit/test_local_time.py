"""Times that people read are in the zone of their machine, with its name; what programs read is in UTC."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import labelloop_cli
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from labelloop_cli.operations.service_checks import certificate_check
from labelloop_cli.output.local_time import local_time
from labelloop_cli.output.run_summary import document
from labelloop_cli.tables import Kind, write

AT = datetime(2026, 7, 1, 22, 30, 59, tzinfo=UTC)


@pytest.fixture(params=["CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "UTC0"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param[:3]
    time.tzset()


LOCAL = {"CET": "2026-07-02 00:30 CEST", "EST": "2026-07-01 18:30 EDT", "UTC": "2026-07-01 22:30 UTC"}


def test_times_are_local_with_the_name_of_the_zone(zone: str) -> None:
    stamp = Timestamp()
    stamp.FromDatetime(AT)
    assert local_time(AT) == local_time(stamp) == local_time(AT.replace(tzinfo=None)) == LOCAL[zone]
    assert LOCAL[zone] in certificate_check("own", AT, datetime(2026, 11, 1, tzinfo=UTC)).found


@pytest.mark.parametrize("at", [datetime.min, datetime.max])
def test_any_time_can_be_shown(zone: str, at: datetime) -> None:
    assert re.fullmatch(r"\d{1,4}-\d\d-\d\d \d\d:\d\d \S+", local_time(at))


def test_programs_read_utc(zone: str, tmp_path: Path) -> None:
    run = RunStatus()
    run.started_at.FromDatetime(AT)
    assert document(run)["started_at"] == "2026-07-01T22:30:59Z"
    write({"at": Kind.TIME}, [(AT,)], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "2026-07-01 22:30:59.000000Z"


def test_no_other_module_of_the_command_formats_times() -> None:
    folder = Path(labelloop_cli.__file__).parent
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(r"strftime|%H:%M|\.isoformat\(", path.read_text())
    }
    assert found == {"output/local_time.py", "tables.py"}
