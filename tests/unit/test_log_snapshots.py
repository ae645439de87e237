"""A service that starts from a snapshot is what one that read the whole log is; what does not fit is ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import labelloop
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelloop.domain.run_log import RunLog
from labelloop.domain.summaries import Summaries
from labelloop.errors import Corrupt, LabelloopError, NotAllowed, NotFound
from labelloop.eventlog import run_states
from labelloop.eventlog.log import Recorded
from labelloop.eventlog.log_snapshots import LogSnapshots
from labelloop.eventlog.projections import RunProjections
from labelloop.eventlog.snapshot_file import read_snapshot, write_snapshot
from labelloop.eventlog.snapshots import FORMAT, go_on_from, restored, snapshot_of
from labelloop.events.v1 import events_pb2 as pb
from labelloop.snapshots.v1.snapshots_pb2 import LogPosition, Snapshot
from structlog.testing import capture_logs

from oracle_svc.domain.labeling_state import LabelingState
from oracle_svc.domain.listed_run import ENDED_RUNS, ended_run
from scorer_svc.models.latest import MODELS, LatestModel, model_of
from tests.bench.log_events import run_events
from tests.examples import examples
from tests.unit.test_run_states import several_runs
from trainer_svc.domain.run_state import RunState
from trainer_svc.status import STATUSES, status_of


def begin_model(event: pb.Event, at: datetime) -> LatestModel:
    return LatestModel(RunLog(event.run_started), event.run_id, unheard)


def unheard(run: LatestModel) -> None:
    """Take no notice of a new model."""


SERVICES: dict[str, tuple[Any, Any, Summaries]] = {
    "trainer": (RunState.begin, status_of, STATUSES),
    "oracle": (LabelingState.begin, ended_run, ENDED_RUNS),
    "scorer": (begin_model, model_of, MODELS),
}


def with_archives(stream: list[Recorded], rng: Random) -> list[Recorded]:
    """Archive one of the runs after its events, write to it too late, and restore another."""
    events = [each.event for each in stream if each.event]
    own = [event for event in events if event.run_id == "run-0"]
    facts = pb.RunArchived(archive_sha256="a" * 64, event_count=len(own), last_sequence=1)
    events.append(pb.Event(run_id="run-0", run_archived=facts))
    events += rng.choice(
        (own[1:4], [*own, pb.Event(run_id="run-0", run_restored=pb.RunRestored(event_count=len(own)))], [])
    )
    return [Recorded(event, i, data=event.SerializeToString(deterministic=True)) for i, event in enumerate(events, 1)]


def held(projections: RunProjections[Any]) -> dict[str, Any]:
    """Return all that a service holds, with every run folded."""
    archived = projections.archived
    return {
        "sequence": projections.sequence,
        "order": [*projections.runs],
        "runs": {run_id: repr(projections.runs[run_id]) for run_id in projections.runs},
        "refused": projections.refused,
        "carriers": projections.carriers,
        "archived": [repr(each) for each in archived.runs.values()],
        "late": [(late.sequence, late.data) for each in archived.runs.values() for late, _ in each.late],
        "facts": archived.facts(),
        "cleared": projections.beginnings.cleared,
    }


def through_a_file(snapshot: Snapshot, sequence: int) -> Snapshot:
    snapshot.position.CopyFrom(LogPosition(sequence=sequence))
    return Snapshot.FromString(snapshot.SerializeToString())


@pytest.mark.parametrize("service", SERVICES)
@given(seed=st.integers(0, 10**6), cut=st.floats(0, 1), kept=st.sampled_from((0, 200, 20_000)))
@settings(max_examples=examples(20), deadline=None)
def test_wherever_the_history_is_cut_a_start_from_a_snapshot_is_one_from_the_whole_log(
    service: str, seed: int, cut: float, kept: int
) -> None:
    begin, summarize, summaries = SERVICES[service]
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setattr(run_states, "_FOLDED_KEPT", kept)
        stream = with_archives(several_runs(seed), Random(seed))
        at = int(len(stream) * cut)
        before, whole, after = (RunProjections(begin, summarize) for _ in range(3))
        for recorded in stream[:at]:
            before.apply(recorded)
        snapshot = snapshot_of(before, 3, summaries.dump)
        assert snapshot
        go_on_from(restored(through_a_file(snapshot, before.sequence), after, summaries), after)
        for recorded in stream:
            whole.apply(recorded)
        for recorded in stream[at:]:
            after.apply(recorded)
        summarized = [each.runs.each(summarize, lambda summary: summary) for each in (whole, after)]
        assert repr(summarized[0]) == repr(summarized[1])
        assert held(after) == held(whole)


def ended_runs(service: str = "trainer", count: int = 3) -> RunProjections[Any]:
    begin, summarize, _ = SERVICES[service]
    projections = RunProjections(begin, summarize)
    for i in range(count):
        for event in run_events(f"run-{i}", 6, 3, ended=i > 0):
            data = event.SerializeToString(deterministic=True)
            projections.apply(Recorded(event, projections.sequence + 1, data=data))
    return projections


def test_no_snapshot_is_taken_while_an_import_is_unfinished() -> None:
    projections = ended_runs()
    label = pb.Event(run_id="half", label_provided=pb.LabelProvided(sample_id=1))
    projections.apply(Recorded(label, projections.sequence + 1))
    assert snapshot_of(projections, 0, STATUSES.dump) is None


def damaged(snapshot: Snapshot, what: str) -> Snapshot:
    run = snapshot.runs[1]
    match what:
        case "block":
            run.blocks[0] = b"\xff" + run.blocks[0][1:]
        case "cut":
            run.blocks[0] = run.blocks[0][:-9]
        case "count":
            run.count += 1
        case "empty":
            del run.blocks[:]
            run.count = 0
        case "other run":
            run.run_id = "other"
        case "twice":
            snapshot.runs.add().CopyFrom(run)
        case "summary":
            run.summary = b"\xff"
        case "late":
            snapshot.archives.add(run_id="late").late.add(data=b"\xff")
    return snapshot


@pytest.mark.parametrize("what", ["block", "cut", "count", "empty", "other run", "twice", "summary", "late"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_snapshot_that_no_service_wrote_is_refused_whole(service: str, what: str) -> None:
    begin, summarize, summaries = SERVICES[service]
    snapshot = snapshot_of(ended_runs(service), 0, summaries.dump)
    assert snapshot
    fresh = RunProjections(begin, summarize)
    with pytest.raises(Corrupt) as caught:
        restored(damaged(snapshot, what), fresh, summaries)
    assert caught.value.reason == "BAD_SNAPSHOT"
    assert not fresh.runs


def test_a_file_that_was_damaged_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trainer.snapshot"
    with pytest.raises(NotFound):
        read_snapshot(path)
    snapshot = snapshot_of(ended_runs(), 0, STATUSES.dump)
    assert snapshot
    write_snapshot(path, snapshot)
    whole = path.read_bytes()
    assert read_snapshot(path) == snapshot
    rng = Random(1)
    for at in [*range(60), *(rng.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Corrupt):
            read_snapshot(path)
        path.write_bytes(whole[:at])
        with pytest.raises(Corrupt):
            read_snapshot(path)


def test_a_file_that_others_may_write_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trainer.snapshot"
    write_snapshot(path, Snapshot())
    path.chmod(0o666)
    with pytest.raises(NotAllowed):
        read_snapshot(path)
    path.unlink()
    path.mkdir()
    with pytest.raises((LabelloopError, OSError)):
        read_snapshot(path)
    path.rmdir()
    (tmp_path / "elsewhere").write_bytes(b"")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        read_snapshot(path)


def test_a_process_that_is_killed_while_it_writes_leaves_the_snapshot_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trainer.snapshot"
    write_snapshot(path, Snapshot(format=FORMAT, release="before"))
    program = (
        "import sys; from pathlib import Path; from labelloop.eventlog.snapshot_file import write_snapshot;"
        "from labelloop.snapshots.v1.snapshots_pb2 import Snapshot;"
        "write_snapshot(Path(sys.argv[1]), Snapshot(format=1, release='after'))"
    )
    (crash := tmp_path / "crash").write_text("before keep snapshot")
    environment = {**os.environ, "LABELLOOP_CRASH_AT": str(crash)}
    killed = subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_snapshot(path).release == "before"
    assert len(list(tmp_path.iterdir())) == 2  # the draft is removed by a start an hour later


class FakeLog:
    """A log that still holds the event that a snapshot ends with, or not."""

    def __init__(self, *, stands: bool = True) -> None:
        self.undecodable, self._stands = 0, stands

    async def created(self) -> str:
        return "2026-01-01"

    async def position(self, recorded: Recorded) -> LogPosition | None:
        return LogPosition(sequence=recorded.sequence, data=recorded.data)

    async def go_on_from(self, position: LogPosition) -> bool:
        return self._stands


def snapshots_of(
    folder: Path, projections: RunProjections[Any], log: FakeLog, service: str = "trainer"
) -> LogSnapshots:
    return LogSnapshots(folder, service, log, projections, STATUSES)  # type: ignore[arg-type]


async def test_a_snapshot_is_taken_over_if_the_log_is_the_same(tmp_path: Path) -> None:
    before, after, log = ended_runs(), RunProjections(RunState.begin, status_of), FakeLog()
    log.undecodable = 2
    await snapshots_of(tmp_path, before, log).take()
    log = FakeLog()
    await snapshots_of(tmp_path, after, log).restore()
    assert held(after) == held(before)
    assert log.undecodable == 2


@pytest.mark.parametrize("why", ["rolled back", "release", "format", "service"])
async def test_a_snapshot_that_does_not_fit_is_ignored_and_said_to_be(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await snapshots_of(tmp_path, ended_runs(), FakeLog(), "oracle" if why == "service" else "trainer").take()
    if why == "release":
        monkeypatch.setattr(labelloop, "__version__", "0.0.1", raising=False)
    if why == "format":
        monkeypatch.setattr("labelloop.eventlog.log_snapshots.FORMAT", FORMAT + 1)
    if why == "service":
        [file] = tmp_path.iterdir()
        file.rename(tmp_path / file.name.replace("oracle", "trainer"))
    fresh = RunProjections(RunState.begin, status_of)
    with capture_logs() as logs:
        await snapshots_of(tmp_path, fresh, FakeLog(stands=why != "rolled back")).restore()
    assert [each["event"] for each in logs] == ["snapshot_ignored"]
    assert not fresh.runs
    assert not fresh.sequence


async def test_a_folder_that_cannot_be_written_is_said_and_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with capture_logs() as logs:
        await snapshots_of(tmp_path / "file", ended_runs(), FakeLog()).take()
    assert [each["event"] for each in logs] == ["snapshot_not_taken"]
