"""Bad events in the log are passed over, counted and shown, and other runs end as they would have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.eventlog.connection import connect as connect_broker
from labelloop.eventlog.log import EventLog
from labelloop.eventlog.subjects import event_kind, subject_of
from labelloop.events.v1.events_pb2 import (
    AnnotatorAlias,
    AnnotatorsChanged,
    AnswerGiven,
    AutoLabelsCertified,
    Event,
    FeaturesLearned,
    ImportCleared,
    LabelWithdrawn,
    RunArchived,
    RunCancelled,
    RunDeleted,
    RunFailed,
    RunRestored,
    SampleSkipped,
    SkipKind,
)
from labelloop.trainer.v1.trainer_pb2 import ListRunsRequest, ListRunsResponse
from labelloop_cli.clients import Clients
from labelloop_cli.local.stack import Stack
from nats.aio.client import Client

from tests.blobs import Blobs, spec
from tests.e2e.driving import finish, start
from tests.e2e.nasty import damaged, mutations
from tests.e2e.unharmed import FAULT
from tests.examples import drawn, examples
from tests.patience import PATIENCE_S

_EXAMPLES = 10
_EXAMPLES_A_KIND = examples(_EXAMPLES)
some = drawn(_EXAMPLES)


@pytest.fixture
async def broker(stack: Stack) -> AsyncIterator[Client]:
    client = await connect_broker(stack.nats_url, "test")
    yield client
    await client.close()


def bad_events(good: list[Event]) -> list[tuple[str, bytes]]:
    """Subjects and data of bad events of every kind, from nearly valid to no events at all.

    Each has a run of its own; every other one follows a valid beginning of its run.
    """
    made: list[tuple[str, bytes]] = []
    ends = [
        Event(run_id="good", run_cancelled=RunCancelled(reason="enough")),
        Event(run_id="good", sample_skipped=SampleSkipped(sample_id=1, kind=SkipKind.SKIP_KIND_SKIPPED)),
        Event(run_id="good", label_withdrawn=LabelWithdrawn(sample_id=1, revision=1)),
        Event(run_id="good", answer_given=AnswerGiven(sample_id=1, label=1, annotator="kim")),
        Event(run_id="good", features_learned=FeaturesLearned(features_sha256="0" * 64, feature_count=3)),
        Event(run_id="good", round=1, auto_labels_certified=AutoLabelsCertified(threshold=0.9, audited=3, count=1)),
        Event(run_id="good", run_failed=RunFailed(reason="GONE", message="gone")),
        Event(run_id="good", run_archived=RunArchived(archive_sha256="0" * 64, event_count=1, last_sequence=1)),
        Event(run_id="good", run_restored=RunRestored(event_count=1)),
        Event(run_id="good", run_deleted=RunDeleted(reason="asked for")),
        Event(run_id="good", annotators_changed=AnnotatorsChanged(alias=AnnotatorAlias(name="kim", same_as="kay"))),
        Event(run_id="good", import_cleared=ImportCleared(reason="given up")),
    ]
    kinds = {event_kind(event): event for event in (*good, *ends)}
    assert kinds.keys() == {field.name for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields}

    def add(event: Event, data: bytes) -> None:
        run_id = f"bad{len(made)}"
        beginning = Event(run_id=run_id, run_started=good[0].run_started)
        if len(made) % 2 and not event.HasField("run_started"):
            made.append((subject_of(beginning), beginning.SerializeToString()))
        made.append(
            (subject_of(event).replace(f".{event.run_id}.", f".{run_id}."), data.replace(b"good", run_id.encode()))
        )

    for event in kinds.values():
        _collect(event, mutations(event, {}).map(Event.SerializeToString), add)
        _collect(event, damaged(event.SerializeToString()), add)
    return made


def _collect(event: Event, candidates: st.SearchStrategy[bytes], add: object) -> None:
    @some
    @given(candidates)
    def collect(data: bytes) -> None:
        if len(data) < 500_000:  # the broker refuses more than a megabyte
            add(event, data)  # type: ignore[operator]

    collect()


async def shown(clients: Clients) -> ListRunsResponse:
    return await clients.trainer.ListRuns(ListRunsRequest())


@pytest.mark.timeout(1_200)  # thousands of events
async def test_bad_events_are_counted_and_do_not_affect_other_runs(
    stack: Stack, clients: Clients, broker: Client, blobs: Blobs
) -> None:
    await start(clients, "good", spec(blobs))
    good = await finish(clients, "good")
    log = EventLog(broker)
    events = [recorded.event for recorded in await log.read_run("good") if recorded.event]
    processes = [service.process for service in stack.services.values()]
    bad = bad_events(events)
    js = broker.jetstream()
    for subject, data in bad:
        await js.publish(subject, data)
    assert len(bad) > len({event_kind(event) for event in events}) * _EXAMPLES_A_KIND
    await start(clients, "after", spec(blobs))
    after = await finish(clients, "after", within_s=2 * PATIENCE_S)  # after hundreds of runs that began well
    assert [each.model_sha256 for each in after.rounds] == [each.model_sha256 for each in good.rounds]
    assert (await shown(clients)).unreadable_events > len(bad) // 4
    assert [service.process for service in stack.services.values()] == processes
    assert all(process and process.returncode is None for process in processes)
    for service in stack.services.values():
        assert not FAULT.search(Path(service.log_file).read_text()), service.name
