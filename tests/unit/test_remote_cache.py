"""Datasets that are read from remote files, here in memory."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from labelloop.artifacts import filesystems
from labelloop.domain.remote_urls import RemoteUrl, parsed_prefixes, parsed_url
from labelloop.errors import InvalidInput, LimitExceeded, NotAllowed, NotFound, Unready
from labelloop.events.v1.events_pb2 import DatasetSource

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.places import Places
from oracle_svc.folder_cache import FolderCache
from oracle_svc.remote import objects
from oracle_svc.remote.buckets import Buckets
from oracle_svc.remote.cache import RemoteCache
from oracle_svc.remote.objects import RemoteObject
from oracle_svc.remote.sources import Sources
from tests.unit.test_upload_cache import npy

PREFIXES = parsed_prefixes("s3://bucket/sets, s3://bucket/other, https://example.org")


class Objects:
    """Objects in memory. ``fail`` is called before each request; ``reads`` counts those that read an object."""

    def __init__(self, **files: bytes) -> None:
        self.files, self.reads = files, 0
        self.stamped = True
        self.fail: Callable[[], None] = lambda: None

    def listed(self, url: RemoteUrl) -> list[RemoteObject]:
        self.fail()
        found = {name: data for name, data in self.files.items() if f"{name}/".startswith(f"{url.name}/")}
        return [
            RemoteObject(name, len(data), sha256(data).hexdigest() if self.stamped else "")
            for name, data in sorted(found.items())
        ]

    def blocks(self, url: RemoteUrl, each: RemoteObject) -> Iterator[bytes]:
        self.fail()
        self.reads += 1
        data = self.files[each.name]
        yield data[:3]
        yield data[3:]


@pytest.fixture
def store() -> Objects:
    return Objects(**{"pets/cat/1": b"first", "pets/dog/2": b"two", "pets/empty": b"", "petsy": b"other"})


@pytest.fixture
def cache(store: Objects, tmp_path: Path) -> RemoteCache:
    return made(store, tmp_path)


def made(store: Objects, folder: Path, bytes_max: int = 1_000_000) -> RemoteCache:
    return RemoteCache(FolderCache(folder / "copies", bytes_max), PREFIXES, lambda url, field: store)


async def test_a_folder_is_copied_with_its_names_and_once(store: Objects, cache: RemoteCache) -> None:
    folder = await cache.path("s3://bucket/sets/pets", "name")
    assert folder.name == "pets"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"cat/1": b"first", "dog/2": b"two", "empty": b""}
    assert await cache.path("S3://bucket/sets/pets/", "labels") == folder
    assert store.reads == 3


async def test_what_changed_is_read_again(store: Objects, cache: RemoteCache) -> None:
    before = await cache.path("s3://bucket/sets/petsy", "name")
    store.files["petsy"] = b"new"
    after = await cache.path("s3://bucket/sets/petsy", "name")
    assert (before.read_bytes(), after.read_bytes()) == (b"other", b"new")


async def test_equal_files_at_two_urls_are_two_copies(store: Objects, cache: RemoteCache) -> None:
    paths = [await cache.path(f"s3://bucket/{folder}/petsy", "name") for folder in ("sets", "other")]
    assert paths[0] != paths[1]


async def test_files_without_versions_are_read_each_time_and_kept_once(store: Objects, cache: RemoteCache) -> None:
    store.stamped = False
    paths = {await cache.path("https://example.org/petsy", "name") for _ in range(2)}
    assert store.reads == 2
    assert [path.read_bytes() for path in paths] == [b"other"]
    assert len(list(cache.folder.iterdir())) == 1


async def test_a_file_that_changes_while_it_is_read_is_read_again(store: Objects, cache: RemoteCache) -> None:
    changes = iter([b"two", b"three"])

    def change() -> None:
        if store.reads:
            store.files["petsy"] = next(changes, store.files["petsy"])

    store.fail = change
    assert (await cache.path("s3://bucket/sets/petsy", "name")).read_bytes() == b"three"
    assert len(list(cache.folder.iterdir())) == 1


async def test_a_file_that_changes_all_the_time_is_a_dataset_that_changes(store: Objects, cache: RemoteCache) -> None:
    def change() -> None:
        store.files["petsy"] += b"."

    store.fail = change
    with pytest.raises(Unready, match=r"^name: .*petsy.* changes while it is read") as raised:
        await cache.path("s3://bucket/sets/petsy", "name")
    assert raised.value.reason == "DATASET_CHANGING"
    assert not list(cache.folder.iterdir())


async def test_a_file_that_goes_while_it_is_read_is_missing(store: Objects, cache: RemoteCache) -> None:
    def vanish() -> None:
        if store.reads:
            store.files.pop("pets/dog/2", None)

    store.fail = vanish
    folder = await cache.path("s3://bucket/sets/pets", "name")
    assert sorted(path.name for path in folder.rglob("*")) == ["1", "cat", "empty"]


@pytest.mark.parametrize("name", ["pets/../escaped", "pets//x", "pets/cat", "pets/a\0b", f"pets/{'x' * 300}"])
async def test_names_that_are_no_plain_paths_are_refused(store: Objects, cache: RemoteCache, name: str) -> None:
    store.files[name] = b"1"
    with pytest.raises(InvalidInput, match=r"labels: .*its name") as raised:
        await cache.path("s3://bucket/sets/pets", "labels")
    assert raised.value.reason == "BAD_FILE_NAME"
    assert store.reads == 0


async def test_too_many_files_and_too_many_bytes_are_refused_unread(
    store: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LimitExceeded, match=r"name: the pool has 8 bytes, .* at most 7.*LABELLOOP_UPLOADS_CACHE_GB"):
        await made(store, tmp_path, 7).path("s3://bucket/sets/pets", "name")
    monkeypatch.setattr(objects, "OBJECTS_MAX", 2)
    with pytest.raises(LimitExceeded, match="more than 2 files"):
        await made(store, tmp_path).path("s3://bucket/sets/pets", "name")
    assert store.reads == 0


async def test_a_file_of_unknown_size_is_bounded(store: Objects, tmp_path: Path) -> None:
    class Endless(Objects):
        def listed(self, url: RemoteUrl) -> list[RemoteObject]:
            return [RemoteObject(url.name, -1, "")]

        def blocks(self, url: RemoteUrl, each: RemoteObject) -> Iterator[bytes]:
            while True:
                yield bytes(2**20)

    with pytest.raises((LimitExceeded, Unready), match="LABELLOOP_UPLOADS_CACHE_GB"):
        await made(Endless(), tmp_path, 100 * 2**20).path("https://example.org/zeros", "name")
    assert not list((tmp_path / "copies").iterdir())


async def test_a_copy_that_takes_too_long_ends(
    store: Objects, cache: RemoteCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oracle_svc.remote.cache._FETCH_S", -1.0)
    with pytest.raises(LimitExceeded, match="more than an hour"):
        await cache.path("s3://bucket/sets/pets", "name")
    assert not list(cache.folder.iterdir())


async def test_many_files_are_all_copied(store: Objects, cache: RemoteCache) -> None:
    store.files = {f"many/{number}": str(number).encode() for number in range(1_000)}
    folder = await cache.path("s3://bucket/sets/many", "name")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {str(each): str(each) for each in range(1_000)}


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (FileNotFoundError(), NotFound, "there is no 's3://bucket/sets/x'"),
        (PermissionError("Access Denied"), NotAllowed, r"credentials \(Access Denied\)"),
        (OSError(errno.EIO, "no\nluck"), Unready, r"cannot be read now \(.*no luck\)"),
        (TimeoutError(), Unready, r"\(TimeoutError\)"),
        (ValueError("Invalid endpoint: x"), NotAllowed, "Invalid endpoint"),
    ],
)
async def test_trouble_is_one_sentence_that_names_the_field(
    store: Objects, cache: RemoteCache, error: Exception, kind: type[Exception], said: str
) -> None:
    def fail() -> None:
        raise error

    store.fail = fail
    with pytest.raises(kind, match=f"^evaluation: .*{said}") as raised:
        await cache.path("s3://bucket/sets/x", "evaluation")
    assert getattr(raised.value, "field") == "evaluation"  # noqa: B009 - of any of these kinds


async def test_other_errors_are_ours(store: Objects, cache: RemoteCache) -> None:
    def fail() -> None:
        raise KeyError("a fault of the program")

    store.fail = fail
    with pytest.raises(KeyError):
        await cache.path("s3://bucket/sets/x", "name")


async def test_nothing_is_asked_of_a_place_that_is_not_allowed(store: Objects, cache: RemoteCache) -> None:
    def fail() -> None:
        raise AssertionError("asked")

    store.fail = fail
    with pytest.raises(InvalidInput, match="LABELLOOP_REMOTE_POOLS"):
        await cache.path("s3://elsewhere/petsy", "name")


async def test_two_callers_share_one_copy(store: Objects, cache: RemoteCache) -> None:
    url = "s3://bucket/sets/pets"
    first, second = await asyncio.gather(cache.path(url, "name"), cache.path(url, "evaluation"))
    assert first == second
    assert store.reads == 3


async def test_a_dataset_of_remote_files_equals_that_of_local_ones(tmp_path: Path) -> None:
    samples, labels = np.arange(12, dtype=np.uint8).reshape(4, 3), np.array([0, 1, 0, 1])
    store = Objects(**{"x.npy": npy(samples), "y.npy": npy(labels)})
    datasets = DatasetCache(None, tmp_path, Places(tmp_path / "allowed"), None, made(store, tmp_path))
    source = DatasetSource(name="s3://bucket/sets/x.npy", labels="s3://bucket/sets/y.npy", classes=["a", "b"])
    dataset = await datasets.get(source)
    assert dataset.name == "x.npy"
    np.save(tmp_path / "x.npy", samples)
    np.save(tmp_path / "y.npy", labels)
    local = DatasetSource(name=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy"), classes=["a", "b"])
    assert (await DatasetCache(None, tmp_path, Places(tmp_path)).get(local)).sha256 == dataset.sha256
    store.files["y.npy"] = npy(1 - labels)
    assert (await datasets.get(source)).sha256 != dataset.sha256


async def test_errors_and_notes_name_the_url_not_the_copy(tmp_path: Path) -> None:
    table = "a,b,c\n1,x,no\n2,y,yes\n3,\xe9,no\n".encode("latin-1")
    store = Objects(**{"x.npy": b"nonsense", "t.csv": table})
    datasets = DatasetCache(None, tmp_path, Places(None), None, made(store, tmp_path))
    with pytest.raises(InvalidInput, match=r"s3://bucket/sets/x.npy") as raised:
        await datasets.get(DatasetSource(name="s3://bucket/sets/x.npy", classes=["a", "b"]))
    assert str(tmp_path) not in str(raised.value)
    dataset = await datasets.get(DatasetSource(name="s3://bucket/sets/t.csv", label_column="c"))
    assert any("s3://bucket/sets/t.csv is not UTF-8" in note for note in dataset.notes)
    assert not any(str(tmp_path) in note for note in dataset.notes)


async def test_without_prefixes_urls_are_refused_by_the_setting(tmp_path: Path) -> None:
    for remote in (None, RemoteCache(FolderCache(tmp_path, 10), (), Sources(()))):
        with pytest.raises(InvalidInput, match="ask its operator to set LABELLOOP_REMOTE_POOLS") as raised:
            await DatasetCache(None, tmp_path, Places(None), None, remote).get(DatasetSource(name="s3://bucket/x.npy"))
        assert raised.value.field == "dataset.name"


def test_a_store_without_pages_is_listed_below_its_prefix() -> None:
    filesystem = filesystems.opened("memory://", "name")[0]
    for name in ("sets/pets/cat/1", "sets/pets/2", "sets/petsy/3"):
        filesystem.pipe_file(f"/bucket/{name}", name.encode())
    buckets = Buckets(filesystem)
    url = parsed_url("gs://bucket/sets/pets")
    listed = buckets.listed(url)
    assert [(each.name, each.size) for each in listed] == [("pets/2", 11), ("pets/cat/1", 15)]
    assert all(each.stamp for each in listed)
    assert b"".join(buckets.blocks(url, listed[1])) == b"sets/pets/cat/1"
    [alone] = buckets.listed(parsed_url("gs://bucket/sets/petsy/3"))
    assert alone.name == "3"


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gs")])
def test_a_missing_library_is_named_by_its_extra(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str, **options: object) -> None:
        raise ImportError("Please install it")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InvalidInput, match=rf"{scheme}://.*pip install 'labelloop\[{extra}\]'") as raised:
        Sources(())(parsed_url(f"{scheme}://bucket/x"), "labels")
    assert raised.value.field == "labels"
