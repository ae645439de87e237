"""Datasets that are read from uploads."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelloop.artifacts.store import digest_of
from labelloop.artifacts.upload_manifest import PART_BYTES
from labelloop.errors import Corrupt, InvalidInput, LimitExceeded, NotFound, Unready
from labelloop.events.v1.events_pb2 import DatasetSource
from labelloop.oracle.v1.oracle_pb2 import Upload
from numpy.typing import NDArray

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.folder_cache import FolderCache
from oracle_svc.uploads.cache import UploadCache
from oracle_svc.uploads.receiver import UploadReceiver
from tests.memory_uploads import MemoryUploads, put_files

LARGE = np.random.default_rng(1).bytes(4 * PART_BYTES + 5)


@pytest.fixture
def store() -> MemoryUploads:
    return MemoryUploads()


@pytest.fixture
def cache(store: MemoryUploads, tmp_path: Path) -> UploadCache:
    return UploadCache(store, FolderCache(tmp_path / "uploads", 10_000_000))


async def put(store: MemoryUploads, files: dict[str, bytes]) -> Upload:
    return await put_files(UploadReceiver(store, 100_000_000), files)


def npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


async def test_files_are_those_that_were_uploaded(store: MemoryUploads, cache: UploadCache) -> None:
    upload = await put(store, {"pets/cat/1": LARGE, "pets/dog/2": b"two", "pets/empty": b""})
    folder = await cache.path(f"upload:{upload.id}", "name")
    assert folder == cache.folder / upload.id / "pets"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"cat/1": LARGE, "dog/2": b"two", "empty": b""}
    assert await cache.path(f"upload:{upload.id}/pets/dog/2", "name") == folder / "dog" / "2"


async def test_an_upload_is_fetched_once(store: MemoryUploads, cache: UploadCache) -> None:
    upload = await put(store, {"a": LARGE})
    await cache.path(f"upload:{upload.id}", "name")
    reads = store.reads
    await cache.path(f"upload:{upload.id}/a", "name")
    assert store.reads == reads


@pytest.mark.parametrize("reference", ["upload:", "upload:x", f"upload:{'0' * 64}/../a", f"upload:{'0' * 64}//etc"])
async def test_a_reference_that_leads_elsewhere_is_refused(cache: UploadCache, reference: str) -> None:
    with pytest.raises(InvalidInput, match="labels: "):
        await cache.path(reference, "labels")


async def test_an_unknown_upload_and_an_unknown_file_are_not_found(store: MemoryUploads, cache: UploadCache) -> None:
    with pytest.raises(NotFound):
        await cache.path(f"upload:{'0' * 64}", "name")
    upload = await put(store, {"a": b"1"})
    with pytest.raises(NotFound, match="labels: the upload has no file or folder 'b'"):
        await cache.path(f"upload:{upload.id}/b", "labels")


async def test_a_damaged_or_incomplete_upload_leaves_nothing(store: MemoryUploads, cache: UploadCache) -> None:
    upload = await put(store, {"a": b"one"})
    store.parts[digest_of(b"one")] = b"two"
    with pytest.raises(Corrupt, match="'a'"):
        await cache.path(f"upload:{upload.id}", "name")
    del store.parts[digest_of(b"one")]
    with pytest.raises(NotFound):
        await cache.path(f"upload:{upload.id}", "name")
    assert not list(cache.folder.iterdir())


async def test_the_least_recently_used_upload_makes_room_unless_it_is_in_use(
    store: MemoryUploads, tmp_path: Path
) -> None:
    cache = UploadCache(store, FolderCache(tmp_path / "uploads", 10))
    uploads = [await put(store, {"a": bytes([number] * 4)}) for number in range(3)]
    folders = [(await cache.path(f"upload:{upload.id}", "name")).parent for upload in uploads[:2]]
    with pytest.raises(Unready, match="LABELLOOP_UPLOADS_CACHE_GB by 2 bytes"):
        await cache.path(f"upload:{uploads[2].id}", "name")
    os.utime(folders[1], (0, 0))
    await cache.path(f"upload:{uploads[2].id}", "name")
    assert [folder.exists() for folder in folders] == [True, False]


async def test_an_upload_larger_than_the_cache_is_refused(store: MemoryUploads, tmp_path: Path) -> None:
    upload = await put(store, {"a": bytes(11)})
    with pytest.raises(LimitExceeded, match="has 11 bytes, but this oracle keeps at most 10"):
        await UploadCache(store, FolderCache(tmp_path, 10)).path(f"upload:{upload.id}", "name")


async def test_a_dataset_of_uploads_equals_that_of_the_files(
    store: MemoryUploads, cache: UploadCache, tmp_path: Path
) -> None:
    samples, labels = np.arange(12, dtype=np.uint8).reshape(4, 3), np.array([0, 1, 0, 1])
    upload = await put(store, {"pool.npy": npy(samples)})
    of_labels = await put(store, {"y.npy": npy(labels)})
    allowed = tmp_path / "pools"
    datasets = DatasetCache(None, tmp_path, Places(allowed), cache)
    named = f"upload:{of_labels.id}/y.npy"
    dataset = await datasets.get(DatasetSource(name=f"upload:{upload.id}", labels=named, classes=["a", "b"]))
    assert (dataset.samples[:] == samples).all()
    assert dataset.name == "pool.npy"
    np.save(tmp_path / "same.npy", samples)
    np.save(tmp_path / "y.npy", labels)
    local = DatasetSource(name=str(tmp_path / "same.npy"), labels=str(tmp_path / "y.npy"), classes=["a", "b"])
    assert (await DatasetCache(None, tmp_path, Places(tmp_path)).get(local)).sha256 == dataset.sha256
    with pytest.raises(InvalidInput, match="outside"):
        await datasets.get(DatasetSource(name=f"upload:{upload.id}", labels=str(tmp_path / "y.npy")))
    with pytest.raises(InvalidInput, match="outside"):
        await datasets.get(DatasetSource(name=str(cache.folder / upload.id / "pool.npy")))


async def test_errors_of_uploads_name_the_field_as_requests_do(cache: UploadCache, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        await DatasetCache(None, tmp_path, Places(None), cache).get(DatasetSource(name="upload:x"))
    assert raised.value.field == "dataset.name"
    with pytest.raises(InvalidInput, match="this oracle has none"):
        await DatasetCache(None, tmp_path, Places(tmp_path)).get(DatasetSource(name=f"upload:{'0' * 64}"))
