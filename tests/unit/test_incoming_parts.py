"""Whatever an import sends, it is taken or refused with a message, and little of it is held in memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from labelloop.artifacts.named_artifacts import Named, named_by_event
from labelloop.artifacts.store import digest_of
from labelloop.errors import InvalidInput, LabelloopError, LimitExceeded
from labelloop.events.v1 import events_pb2 as pb
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ImportRunRequest

from tests.e2e.nasty import Likely, mutations
from tests.exported_run import ARTIFACTS, exported_events, import_parts
from trainer_svc.imports.artifacts import IncomingArtifacts
from trainer_svc.imports.events import IncomingEvents
from trainer_svc.imports.spool import Spool

PARTS = import_parts(exported_events())
BYTES_MAX = 100 * 2**20


@pytest.fixture
def spool() -> Iterator[Spool]:
    spool = Spool(None, BYTES_MAX)
    yield spool
    spool.close()


async def taken(parts: list[ImportRunRequest], spool: Spool) -> tuple[pb.Event, list[pb.Event]]:
    """Return the events of an import, ``run_started`` by itself."""
    events, artifacts = IncomingEvents(spool, 1_000, 2**20), IncomingArtifacts(spool)
    for part in parts:
        if part.HasField("artifact"):
            await artifacts.take(part.artifact)
        else:
            events.take(part.event)
            artifacts.expect(named_by_event(part.event))
    return events.start, list(events.rest())


async def test_what_was_checked_is_read_back_in_order(spool: Spool) -> None:
    start, rest = await taken([ImportRunRequest.FromString(part.SerializeToString()) for part in PARTS], spool)
    assert rest == exported_events()[1:]
    assert start.run_started.imported.count == len(rest)
    assert spool.size == sum(map(len, ARTIFACTS)) + sum(len(event.SerializeToString()) for event in rest)


@given(order=st.lists(st.sampled_from(range(len(PARTS))), max_size=2 * len(PARTS)))
@example(order=[])
@settings(suppress_health_check=list(HealthCheck))
def test_parts_in_any_order_are_taken_or_refused(order: list[int]) -> None:
    spool = Spool(None, BYTES_MAX)
    parts = [ImportRunRequest.FromString(PARTS[number].SerializeToString()) for number in order]
    try:
        start, rest = asyncio.run(taken(parts, spool))
    except LabelloopError as error:
        assert error.reason in {"BAD_LEDGER", "BAD_RUN_ID"}  # noqa: PT017
    else:
        assert [start, *rest][1:] == exported_events()[1 : len(rest) + 1], "only a beginning of the run is sound"
    finally:
        spool.close()


@given(at=st.sampled_from(range(len(PARTS))), data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_a_part_with_other_values_is_taken_or_refused(at: int, data: st.DataObject) -> None:
    likely: Likely = {}
    parts = [ImportRunRequest.FromString(part.SerializeToString()) for part in PARTS]
    other = data.draw(mutations(parts[at], likely))
    parts[at] = ImportRunRequest.FromString(other.SerializeToString())
    spool = Spool(None, BYTES_MAX)
    try:
        asyncio.run(taken([part for part in parts if part.WhichOneof("part")], spool))
    except LabelloopError as error:
        assert error.field  # noqa: PT017
    finally:
        spool.close()


async def test_artifacts_are_kept_on_the_disk(spool: Spool) -> None:
    piece, hashed = bytes(2**20), sha256()
    for _ in range(60):
        hashed.update(piece)
    artifacts, digest = IncomingArtifacts(spool), hashed.hexdigest()
    artifacts.expect([Named(digest)])
    tracemalloc.start()
    try:
        for number in range(60):
            await artifacts.take(ArtifactPiece(sha256=digest, data=piece, last=number == 59))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert [len(data) async for data in artifacts.sent()] == [60 * 2**20]


async def test_an_artifact_that_lists_others_may_be_only_so_large(spool: Spool) -> None:
    artifacts, digest = IncomingArtifacts(spool), digest_of(b"manifest")
    artifacts.expect([Named(digest, is_manifest=True)])
    piece = ArtifactPiece(sha256=digest, data=bytes(2**20))
    for _ in range(64):
        await artifacts.take(piece)
    with pytest.raises(LimitExceeded, match="more than an import may have"):
        await artifacts.take(piece)


def test_a_manifest_that_is_named_as_a_model_first_is_still_read_as_one(spool: Spool) -> None:
    artifacts, digest = IncomingArtifacts(spool), digest_of(b"no manifest")
    artifacts.expect([Named(digest)])
    artifacts.expect([Named(digest, is_manifest=True)])
    artifacts.expect([Named(digest)])
    with pytest.raises(InvalidInput, match="manifest"):
        asyncio.run(artifacts.take(ArtifactPiece(sha256=digest, data=b"no manifest", last=True)))
