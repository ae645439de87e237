"""What the oracle accepts of uploads."""

from __future__ import annotations

import numpy as np
import pytest
from labelloop.artifacts.store import digest_of
from labelloop.artifacts.upload_manifest import PART_BYTES, write_manifest
from labelloop.errors import InvalidInput, LimitExceeded, NotFound, WrongState
from labelloop.oracle.v1.oracle_pb2 import PutUploadRequest, UploadPart

from oracle_svc.uploads.receiver import UploadReceiver
from tests.memory_uploads import MemoryUploads, part, put_files, put_manifest, uploaded

LARGE = np.random.default_rng(1).bytes(4 * PART_BYTES + 5)


@pytest.fixture
def store() -> MemoryUploads:
    return MemoryUploads()


@pytest.fixture
def receiver(store: MemoryUploads) -> UploadReceiver:
    return UploadReceiver(store, 10_000_000)


async def test_an_upload_is_listed_with_its_size_and_the_number_of_its_files(receiver: UploadReceiver) -> None:
    upload = await put_files(receiver, {"a": b"one", "b/c": LARGE, "empty": b""}, "pictures")
    assert (upload.name, upload.bytes, upload.file_count) == ("pictures", 3 + len(LARGE), 3)
    listed = await receiver.listed()
    assert (list(listed.uploads), listed.bytes_max) == ([upload], 10_000_000)


async def test_repeating_an_upload_changes_nothing(receiver: UploadReceiver) -> None:
    first = await put_files(receiver, {"a": b"one"}, "first")
    assert await put_files(receiver, {"a": b"one"}, "second") == first


async def test_only_parts_that_are_not_stored_are_missing(receiver: UploadReceiver) -> None:
    await receiver.put_parts([part(b"one")])
    assert await receiver.missing([digest_of(b"two"), digest_of(b"one")]) == [digest_of(b"two")]


@pytest.mark.parametrize(
    "wrong",
    [UploadPart(sha256=digest_of(b"two"), data=b"one"), part(b""), part(bytes(PART_BYTES + 1)), UploadPart(data=b"x")],
    ids=["another digest", "empty", "too large", "no digest"],
)
async def test_one_wrong_part_and_none_is_stored(
    store: MemoryUploads, receiver: UploadReceiver, wrong: UploadPart
) -> None:
    with pytest.raises(InvalidInput, match="a part"):
        await receiver.put_parts([part(b"fine"), wrong])
    assert not store.parts


async def test_an_upload_with_a_missing_part_is_not_listed(receiver: UploadReceiver) -> None:
    with pytest.raises(WrongState, match="1 of 2 parts are missing"):
        await put_manifest(receiver, write_manifest([uploaded("a", b"never sent")]))
    assert not (await receiver.listed()).uploads


async def test_a_manifest_with_another_digest_is_refused(receiver: UploadReceiver) -> None:
    await receiver.put_parts([part(b"x")])
    with pytest.raises(InvalidInput, match="their digest is another"):
        await receiver.put_upload(PutUploadRequest(id="0" * 64, manifest_parts=[digest_of(b"x")]))


async def test_a_hostile_name_in_a_manifest_is_refused(receiver: UploadReceiver) -> None:
    manifest = write_manifest([uploaded("aa/x", b"1")]).replace(b"aa/x", b"../x")
    with pytest.raises(InvalidInput, match="plain path"):
        await put_manifest(receiver, manifest)


@pytest.mark.parametrize("wanted", ["", "x", "A" * 64, "../" + "0" * 61, "0" * 64 + "\n"])
async def test_what_is_no_digest_is_refused(receiver: UploadReceiver, wanted: str) -> None:
    with pytest.raises(InvalidInput, match="64 hex digits"):
        await receiver.missing([wanted])
    with pytest.raises(InvalidInput, match="64 hex digits"):
        await receiver.remove(wanted)


async def test_an_upload_over_the_limit_of_all_is_refused(store: MemoryUploads) -> None:
    receiver = UploadReceiver(store, 10)
    await put_files(receiver, {"a": bytes(6)})
    with pytest.raises(LimitExceeded, match="has 5 bytes and the others 6, but all may have 10"):
        await put_files(receiver, {"a": bytes(5)})


async def test_without_room_nothing_is_accepted(store: MemoryUploads) -> None:
    receiver = UploadReceiver(store, 0)
    for refused in (receiver.missing([]), receiver.put_parts([]), receiver.put_upload(PutUploadRequest())):
        with pytest.raises(LimitExceeded, match="LABELLOOP_UPLOAD_GB"):
            await refused
    assert (await receiver.listed()).bytes_max == 0


async def test_too_long_requests_are_refused(receiver: UploadReceiver) -> None:
    with pytest.raises(LimitExceeded, match="at most 10,000"):
        await receiver.missing(["0" * 64] * 10_001)
    with pytest.raises(LimitExceeded, match="at most 1,000"):
        await receiver.put_parts([part(b"x")] * 1_001)
    with pytest.raises(InvalidInput, match="at most 200 characters"):
        await receiver.put_upload(PutUploadRequest(id="0" * 64, name="x" * 201))


async def test_removing_an_upload_keeps_parts_that_another_has(store: MemoryUploads, receiver: UploadReceiver) -> None:
    first = await put_files(receiver, {"a": b"shared", "b": b"own"})
    second = await put_files(receiver, {"c": b"shared"})
    assert await receiver.remove(first.id) == 2
    assert set(store.parts) == {digest_of(b"shared"), *second.manifest_parts}
    await receiver.remove(second.id)
    assert not store.parts
    with pytest.raises(NotFound):
        await receiver.remove(second.id)
