"""Pools pushed by commands: to services in memory, and to the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from labelloop.artifacts.store import digest_of
from labelloop.artifacts.upload_manifest import PART_BYTES
from labelloop.errors import InvalidInput, LimitExceeded, NotFound
from labelloop.eventlog.connection import connect
from labelloop.events.v1.events_pb2 import DatasetSource
from labelloop.trainer.v1.trainer_pb2 import RunStatus
from labelloop_cli.local.nats.server import NatsServer
from labelloop_cli.operations import pool_uploads, run
from labelloop_cli.run_spec.request import start_request

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.folder_cache import FolderCache
from oracle_svc.uploads.cache import UploadCache
from oracle_svc.uploads.receiver import UploadReceiver
from oracle_svc.uploads.store import JetStreamUploads
from tests.blobs import write_blobs
from tests.fake_services import FakeOracle, FakeTrainer, served
from tests.finding import FakeFinder
from tests.memory_uploads import MemoryUploads, part, put_files

LARGE = np.random.default_rng(1).bytes(4 * PART_BYTES + 5)


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer(RunStatus(run_id="r"))  # type: ignore[abstract]


@pytest.fixture
async def oracle(trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOracle]:
    oracle = FakeOracle(FakeFinder([]))  # type: ignore[abstract]
    async with served(trainer, oracle, monkeypatch):
        yield oracle


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    (folder / "2.png").write_bytes(LARGE)
    return folder


async def test_only_what_has_changed_is_sent_again(
    oracle: FakeOracle, pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool_uploads.push(pets, "")
    [upload] = (await oracle.uploads.listed()).uploads
    assert (upload.name, upload.file_count, upload.bytes) == ("pets", 2, 3 + len(LARGE))
    assert f"labelloop run start upload:{upload.id}" in capsys.readouterr().out
    del oracle.parts_put[:]
    await pool_uploads.push(pets, "")
    assert not oracle.parts_put
    (pets / "1.png").write_bytes(b"new")
    await pool_uploads.push(pets, "again")
    assert sum(oracle.parts_put) == 2  # the file, and the manifest
    assert [each.name for each in (await oracle.uploads.listed()).uploads] == ["pets", "again"]


async def test_an_interrupted_push_goes_on_where_it_was(oracle: FakeOracle, pets: Path) -> None:
    await oracle.uploads.put_parts([part(LARGE[:PART_BYTES]), part(b"one")])
    await pool_uploads.push(pets, "")
    assert sum(oracle.parts_put) == 5  # four parts of a file, and the manifest


async def test_what_is_over_the_limit_is_refused_before_anything_is_sent(oracle: FakeOracle, pets: Path) -> None:
    for most, said in ((len(LARGE), "but the oracle takes"), (0, "takes no uploads")):
        oracle.uploads = UploadReceiver(MemoryUploads(), most)
        with pytest.raises(LimitExceeded, match=said):
            await pool_uploads.push(pets, "")
    oracle.uploads = UploadReceiver(MemoryUploads(), len(LARGE) + 5)
    await put_files(oracle.uploads, {"a": b"123"})
    with pytest.raises(LimitExceeded, match="Nothing was sent"):
        await pool_uploads.push(pets, "")
    assert not oracle.parts_put


async def test_uploads_are_listed_and_removed_by_name_or_id(
    oracle: FakeOracle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await put_files(oracle.uploads, {"a": b"1"}, "pets")
    monkeypatch.setattr("oracle_svc.uploads.receiver._check_name", lambda name: None)  # an earlier release took any
    second = await put_files(oracle.uploads, {"a": b"2"}, "\x1b]0;x\x07")
    await pool_uploads.list_()
    said = capsys.readouterr().out
    assert "pets" in said
    assert "2 uploads; 2 bytes of 10.0 MB used" in said
    assert "\x1b" not in said
    with pytest.raises(NotFound, match="pool list"):
        await pool_uploads.remove("cats")
    await pool_uploads.remove("pets")
    await pool_uploads.remove(f"upload:{second.id[:10]}")
    assert not (await oracle.uploads.listed()).uploads
    with pytest.raises(InvalidInput, match="give more of the id"):
        pool_uploads.chosen_upload([first, first], "pets")


async def test_a_run_on_services_elsewhere_uploads_the_files_that_are_here(
    trainer: FakeTrainer, oracle: FakeOracle, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_uploads, "is_this_machine", lambda address: False)
    document = {"dataset": {"name": str(pets), "labels": "/on/the/oracle.npy", "classes": ["a", "b"]}}
    await run.start(start_request(document, run_id="new", continues=""), watched=False)
    [upload] = (await oracle.uploads.listed()).uploads
    [request] = trainer.started
    assert request.spec.dataset.name == f"upload:{upload.id}/pets"
    assert request.spec.dataset.labels == "/on/the/oracle.npy"
    wanted = start_request(document, run_id="other", continues="")
    await run.start(wanted, watched=False, uploaded=False)
    assert trainer.started[1].spec.dataset.name == str(pets)


@pytest.mark.parametrize("uploaded", [None, True])
async def test_urls_are_read_by_the_oracle_and_never_uploaded(
    trainer: FakeTrainer, oracle: FakeOracle, monkeypatch: pytest.MonkeyPatch, uploaded: bool | None
) -> None:
    monkeypatch.setattr(pool_uploads, "is_this_machine", lambda address: False)
    dataset = {"name": "s3://bucket/pets", "labels": "https://example.org/y.csv", "classes": ["a", "b"]}
    wanted = start_request({"dataset": dataset}, run_id="new", continues="")
    await run.start(wanted, watched=False, uploaded=uploaded)
    assert not oracle.parts_put
    [request] = trainer.started
    assert (request.spec.dataset.name, request.spec.dataset.labels) == (dataset["name"], dataset["labels"])


async def test_a_run_on_services_here_uploads_only_if_asked_to(
    trainer: FakeTrainer, oracle: FakeOracle, pets: Path
) -> None:
    document = {"dataset": {"name": str(pets), "classes": ["a", "b"]}}
    await run.start(start_request(document, run_id="new", continues=""), watched=False)
    assert not oracle.parts_put
    await run.start(start_request(document, run_id="other", continues=""), watched=False, uploaded=True)
    assert trainer.started[1].spec.dataset.name.startswith("upload:")
    missing = {"dataset": {"name": f"{pets}s", "classes": ["a", "b"]}}
    with pytest.raises(NotFound, match="petss"):
        await run.start(start_request(missing, run_id="third", continues=""), watched=False, uploaded=True)


async def test_a_pool_in_the_broker_is_read_by_any_oracle_until_it_is_removed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    client = await connect(nats_server.url, "test")
    store = JetStreamUploads(client, 10_000_000)
    receiver = UploadReceiver(store, 10_000_000)
    blobs = write_blobs(tmp_path)
    data = blobs.samples.read_bytes()
    assert await receiver.missing([digest_of(LARGE)]) == [digest_of(LARGE)]
    upload = await put_files(receiver, {"pool.npy": data, "large/file": LARGE}, "blobs")
    labels = await put_files(receiver, {"y.npy": blobs.labels.read_bytes()}, "labels")
    assert [each.name for each in (await receiver.listed()).uploads] == ["blobs", "labels"]
    other = JetStreamUploads(client, 10_000_000)
    cache = UploadCache(other, FolderCache(tmp_path / "elsewhere", 10_000_000))
    source = DatasetSource(name=f"upload:{upload.id}/pool.npy", labels=f"upload:{labels.id}", classes="abc")
    dataset = await DatasetCache(None, tmp_path, Places(None), cache).get(source)
    local = await DatasetCache(None, tmp_path, Places(tmp_path)).get(
        DatasetSource(name=str(blobs.samples), labels=str(blobs.labels), classes="abc")
    )
    assert dataset.sha256 == local.sha256
    assert await UploadReceiver(other, 10_000_000).remove(upload.id) > 2
    assert await receiver.missing([digest_of(LARGE[:PART_BYTES])]) == [digest_of(LARGE[:PART_BYTES])]
    with pytest.raises(NotFound, match="no upload"):
        await UploadCache(store, FolderCache(tmp_path / "third", 10_000_000)).path(f"upload:{upload.id}", "name")
    await client.close()


async def test_the_broker_itself_keeps_uploads_below_the_limit(nats_server: NatsServer) -> None:
    client = await connect(nats_server.url, "test")
    store = JetStreamUploads(client, 3 * PART_BYTES)
    receiver = UploadReceiver(store, 3 * PART_BYTES)
    whole = [part(bytes([number]) * PART_BYTES) for number in range(4)]
    with pytest.raises(LimitExceeded, match="no more fit"):
        await receiver.put_parts(whole)
    more = JetStreamUploads(client, 10 * PART_BYTES)
    await UploadReceiver(more, 10 * PART_BYTES).put_parts([part(b"now it fits")])
    assert await more.part(digest_of(b"now it fits")) == b"now it fits"
    await client.close()
