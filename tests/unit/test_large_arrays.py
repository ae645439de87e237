"""Array files that are read part by part: the same samples, digests and errors as of arrays in memory."""

from __future__ import annotations

import errno
import gzip
import os
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.formats import PoolManifest, decode_shard, sample_digest
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded
from labelloop.events.v1.events_pb2 import DatasetSource
from numpy.typing import NDArray
from PIL import Image

from oracle_svc import datasets
from oracle_svc.datasets import duplicates, files, load, sample_files, scratch, shards, stored_array
from oracle_svc.datasets.array_file import ArrayFile
from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.dataset import Dataset
from oracle_svc.datasets.duplicates import first_equal
from oracle_svc.datasets.memory import memory_of
from oracle_svc.datasets.parts import ChosenRows
from oracle_svc.datasets.places import Places
from oracle_svc.datasets.publisher import holds_shards, publish
from oracle_svc.datasets.stored_array import StoredArray
from tests.published import artifacts_in, published

from .test_idx import to_idx

ONE_TILE = 250 * 12
SAMPLES = (np.arange(1_100 * 12) * 7 % 251).reshape(1_100, 4, 3)


def datasets_in(folder: Path) -> DatasetCache:
    return DatasetCache(None, folder, Places(folder))


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes every array for a large one, with shards of a tile and parts of a few rows."""
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(shards, "_ARRAY_BYTES_MAX", ONE_TILE)
    for module in (stored_array, sample_files):
        monkeypatch.setattr(module, "_PART_BYTES", 500)


def stored(path: Path, *arrays: NDArray[Any]) -> StoredArray:
    for number, array in enumerate(arrays):
        np.save(path / f"{number}.npy", array)
    return StoredArray([ArrayFile.at(path / f"{number}.npy") for number in range(len(arrays))], "name")


@pytest.mark.parametrize(
    "raw",
    [
        SAMPLES.astype(np.uint8),
        SAMPLES.astype(">u2"),
        SAMPLES.astype(np.int64),
        SAMPLES.astype(np.float64) / 3,
        SAMPLES.astype(">f4") / 3,
        SAMPLES.astype(np.float16),
        np.asfortranarray(SAMPLES.astype(np.uint8)),
        np.asfortranarray(SAMPLES.reshape(1_100, 12) / 7),
        SAMPLES.astype(np.uint8).transpose(0, 2, 1),
        SAMPLES[:, :1, :1],
    ],
)
@pytest.mark.usefixtures("all_large")
def test_rows_of_a_file_are_those_of_the_array_in_memory(tmp_path: Path, raw: NDArray[Any]) -> None:
    samples = stored(tmp_path, raw)
    expected = raw.astype(samples.dtype)
    assert (samples.shape, samples.nbytes, len(samples)) == (expected.shape, expected.nbytes, len(expected))
    assert (samples.min(), samples.max()) == (expected.min(), expected.max())
    rows = np.array([3, 4, 5, 0, 1_099, 7, 7])
    chosen: list[Any] = [slice(None), slice(3, 400), slice(-5, None), slice(9, 3), slice(0, None, 97), rows, rows[:0]]
    for each in chosen:
        read = samples[each]
        assert read.flags.c_contiguous
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, expected[each])


@given(data=st.data(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_files_are_read_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, lengths: list[int]
) -> None:
    whole = np.arange(sum(lengths) * 2, dtype=np.float32).reshape(-1, 2)
    samples: Any = stored(tmp_path_factory.mktemp("files"), *np.split(whole, np.cumsum(lengths)[:-1]))
    places = st.integers(-len(whole) - 2, len(whole) + 2)
    rows = slice(data.draw(places), data.draw(places), data.draw(st.sampled_from([None, 1, 2, 5])))
    np.testing.assert_array_equal(samples[rows], whole[rows])
    some = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1))), np.int64)
    np.testing.assert_array_equal(samples[some], whole[some])
    np.testing.assert_array_equal(ChosenRows(samples, some)[:], whole[some])
    np.testing.assert_array_equal(ChosenRows(samples, rows)[1:3], whole[rows][1:3])


# As computed when pools were read into memory.
DIGESTS = {
    "uint8": "5ed8c138496454e1a076e7d9361b8cce8b0b4c95e76015a55be95c52844cbd12",
    "uint8, drawn": "bb404e2a13249545cb23afa629e9063a6e54933e012e439330af1472277ca08c",
    "float64": "536035721995953a7c25c0616e23fe2bc4acb3818ac14fb263772b61fccf854f",
    "float64, drawn": "c685d52999d3aae02452d9b5870c9a398864a3ad358b897b02082b715e15ffb8",
}
VALUES = (np.arange(500 * 6 * 6) * 7 % 251).reshape(500, 6, 6)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("how", ["file", "Fortran", "folder", "idx", "gzip"])
async def test_digests_depend_neither_on_size_nor_on_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_large: bool, how: str
) -> None:
    if is_large:
        monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    np.save(tmp_path / "y.npy", np.arange(500) % 3)
    for values, kind in ((VALUES.astype(np.uint8), "uint8"), (VALUES / 250, "float64")):
        path = written(tmp_path / kind, values, how)
        source = DatasetSource(name=str(path), labels=str(tmp_path / "y.npy"))
        cache = DatasetCache(None, tmp_path / "cache", Places(tmp_path))
        assert (await cache.get(source)).sha256 == DIGESTS[kind]
        source.sample_limit, source.limit_seed = 100, 5
        assert (await cache.get(source)).sha256 == DIGESTS[f"{kind}, drawn"]


def written(path: Path, values: NDArray[Any], how: str) -> Path:
    if how == "folder":
        path.mkdir()
        for number in range(5):
            np.save(path / f"part-{number}.npy", values[number * 100 : number * 100 + 100])
    elif how in ("idx", "gzip"):
        data = to_idx(values)
        path.write_bytes(gzip.compress(data) if how == "gzip" else data)
    else:
        with path.open("wb") as file:
            np.save(file, np.asfortranarray(values) if how == "Fortran" else values)
    return path


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("limit", [0, 600])
@pytest.mark.parametrize("how", ["file", "folder of one", "gzip"])
async def test_a_large_pool_is_published_as_it_is(tmp_path: Path, limit: int, how: str) -> None:
    values = SAMPLES.astype(np.uint8)
    path = tmp_path / "pool"
    if how == "folder of one":
        path.mkdir()
        np.save(path / "a.npy", values)
    else:
        path = written(path, values, how)
    source = DatasetSource(name=str(path), classes="ab", sample_limit=limit, limit_seed=3)
    pool = await published(source, tmp_path)
    artifacts = artifacts_in(tmp_path)
    manifest = PoolManifest.from_bytes(await artifacts.get(pool.pool_sha256))
    assert [shard.sample_count for shard in manifest.shards] == ([250, 250, 100] if limit else [250] * 4 + [100])
    read = [
        decode_shard(np.frombuffer(await artifacts.get(shard.sha256), np.uint8), manifest, shard)
        for shard in manifest.shards
    ]
    rows = np.sort(np.random.RandomState([3, 0]).permutation(len(values))[:limit]) if limit else slice(None)
    np.testing.assert_array_equal(np.concatenate(read), values[rows])
    dataset = await DatasetCache(None, tmp_path, Places(tmp_path)).get(source)
    assert holds_shards(dataset.samples, manifest.shards)


Edit = Callable[[Path], None]


def rewritten(path: Path) -> None:
    """Change one value, and leave size and time of modification as they were."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replaced(path: Path) -> None:
    np.save(path.with_name("new.npy"), SAMPLES.astype(np.uint8)[::-1])
    path.with_name("new.npy").rename(path)


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("edit", [rewritten, cut_short, replaced, Path.unlink])
async def test_a_file_edited_before_it_is_published_fails_the_run(tmp_path: Path, edit: Edit) -> None:
    np.save(tmp_path / "x.npy", SAMPLES.astype(np.uint8))
    dataset = await DatasetCache(None, tmp_path, Places(tmp_path)).get(
        DatasetSource(name=str(tmp_path / "x.npy"), classes="ab")
    )
    edit(tmp_path / "x.npy")
    with pytest.raises(InvalidInput, match="start a new run") as refused:
        await publish(dataset, artifacts_in(tmp_path))
    assert (refused.value.reason, refused.value.field) == ("DATASET_CHANGED", "dataset.name")


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("edit", [rewritten, cut_short, replaced])
async def test_a_file_edited_while_it_is_published_is_no_mixture(tmp_path: Path, edit: Edit) -> None:
    np.save(tmp_path / "x.npy", SAMPLES.astype(np.uint8))
    dataset = await DatasetCache(None, tmp_path, Places(tmp_path)).get(
        DatasetSource(name=str(tmp_path / "x.npy"), classes="ab")
    )
    artifacts, put = artifacts_in(tmp_path), artifacts_in(tmp_path).put

    async def edited_meanwhile(data: bytes) -> str:
        if data == SAMPLES[250:500].astype(np.uint8).tobytes():
            edit(tmp_path / "x.npy")
        return await put(data)

    artifacts.put = edited_meanwhile  # type: ignore[method-assign]
    with pytest.raises(InvalidInput) as refused:
        await publish(dataset, artifacts)
    assert refused.value.reason == "DATASET_CHANGED"


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("call", ["open", "preadv"])
async def test_a_failing_disk_is_not_taken_for_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    np.save(tmp_path / "x.npy", SAMPLES.astype(np.uint8))
    dataset = await DatasetCache(None, tmp_path, Places(tmp_path)).get(
        DatasetSource(name=str(tmp_path / "x.npy"), classes="ab")
    )

    def failing(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(InvalidInput, match="the disk fails") as refused:
        dataset.samples[:5]
    monkeypatch.undo()
    assert refused.value.reason == "UNREADABLE"


@pytest.mark.usefixtures("all_large")
async def test_a_file_edited_while_it_is_described_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", SAMPLES.astype(np.uint8))
    edits, add = iter([replaced]), duplicates.EqualSamples.add

    def add_and_edit(equal: duplicates.EqualSamples, part: NDArray[Any]) -> None:
        add(equal, part)
        for edit in edits:
            edit(tmp_path / "x.npy")

    monkeypatch.setattr(duplicates.EqualSamples, "add", add_and_edit)
    dataset = await DatasetCache(None, tmp_path, Places(tmp_path)).get(
        DatasetSource(name=str(tmp_path / "x.npy"), classes="ab")
    )
    np.testing.assert_array_equal(dataset.samples[:], SAMPLES[::-1])


@given(
    values=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    at_once=st.integers(1, 9),
    kind=st.sampled_from([np.uint8, np.float32]),
)
def test_equal_samples_are_those_of_equal_digests(values: list[int], at_once: int, kind: type) -> None:
    samples: NDArray[Any] = np.array(values, kind)[:, None] * np.ones((1, 3), kind)
    digests = np.array([sample_digest(sample) for sample in samples], "S32")
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_KEYS_AT_ONCE", at_once)
        found = first_equal(Dataset("", "", False, samples, None, ("a", "b"), None, None))
    assert found.tolist() == first[group].tolist()


def refused(path: Path, kind: type[LabelloopError], folder: Path) -> LabelloopError:
    with pytest.raises(kind) as caught:
        sample_files.read_samples(path, folder, "name")
    return caught.value


@pytest.mark.usefixtures("all_large")
def test_the_first_bad_row_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    values = np.zeros((300, 4))
    np.save(tmp_path / "pool/a.npy", values)
    values[[201, 250], 1] = np.nan
    np.save(tmp_path / "pool/b.npy", values)
    with pytest.raises(InvalidInput) as caught:
        loaded(tmp_path / "pool")
    error = caught.value
    assert (error.reason, error.field) == ("SAMPLE_VALUE", "name")
    assert f"{tmp_path}/pool/b.npy, row 201: nan is not a finite float32" in error.message


@pytest.mark.usefixtures("all_large")
def test_missing_classes_are_told_before_a_large_pool_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((300, 4), np.nan))
    with pytest.raises(InvalidInput) as refused:
        load(datasets.DatasetSource(str(tmp_path / "x.npy")), data_dir=None, cache_dir=tmp_path)
    assert refused.value.reason == "TOO_FEW_CLASSES"


@pytest.mark.parametrize("other", [np.zeros((3, 5), np.uint8), np.zeros((3, 4), np.float32), np.zeros((3, 4, 1))])
def test_a_file_of_another_kind_in_a_folder_is_named(tmp_path: Path, other: NDArray[Any]) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4), np.uint8))
    np.save(tmp_path / "b.npy", other)
    error = refused(tmp_path, InvalidInput, tmp_path)
    assert (error.reason, error.field) == ("SHARDS_DIFFER", "name")
    assert f"{tmp_path}/b.npy holds samples of" in error.message


def test_a_folder_of_arrays_is_one_pool_with_labels_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    for number in (1, 2, 10):
        np.save(tmp_path / f"x/part-{number}.npy", np.full((number, 64), number, np.uint8))
        np.save(tmp_path / f"y/part-{number}.npy", np.full(number, number % 2))
    (tmp_path / "x/.DS_Store").touch()
    dataset = loaded(tmp_path / "x", labels=str(tmp_path / "y"))
    assert dataset.samples[:, 0].tolist() == [1] + [10] * 10 + [2] * 2
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1] + [0] * 12
    assert dataset.notes[0] == (
        "3 .npy files read one after the other, by name: part-1.npy to part-2.npy "
        "(names are compared as text: part-10.npy comes before part-2.npy)"
    )
    assert "3 .npy files" not in loaded(tmp_path / "x/part-1.npy").notes[0]


def test_settings_of_pictures_are_refused_for_a_folder_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 64), np.uint8))
    with pytest.raises(InvalidInput) as refused:
        loaded(tmp_path, size="8x8")
    assert refused.value.reason == "NOT_PICTURES"


def loaded(path: Path, **settings: Any) -> Dataset:
    return load(datasets.DatasetSource(str(path), classes=("a", "b"), **settings), data_dir=None, cache_dir=path.parent)


def test_an_evaluation_set_that_services_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_EVALUATION_BYTES_MAX", 100)
    np.save(tmp_path / "x.npy", np.zeros((11, 10), np.uint8))
    np.save(tmp_path / "y.npy", np.zeros(11, int))
    with pytest.raises(LimitExceeded, match="110 bytes") as refused:
        loaded(tmp_path / "x.npy", evaluation=str(tmp_path / "x.npy"), evaluation_labels=str(tmp_path / "y.npy"))
    assert refused.value.field == "evaluation"


@pytest.mark.usefixtures("all_large")
def test_unpacked_samples_leave_no_file_behind(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gz", SAMPLES.astype(np.uint8), "gzip")
    samples = sample_files.read_samples(path, tmp_path / "cache", "name").samples
    assert list((tmp_path / "cache").iterdir()) == []
    np.testing.assert_array_equal(samples[:], SAMPLES)


async def test_pictures_that_take_much_room_are_decoded_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        size = (9, 9 + number % 2)
        Image.new("L", size, number % 30).save(folder_of(tmp_path / "pool") / f"{number:02}.png")
    (tmp_path / "pool/05.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    source = DatasetSource(name=str(tmp_path / "pool"), classes="ab", skip_bad=True, sample_limit=20, limit_seed=1)
    in_memory = await DatasetCache(None, tmp_path / "cache", Places(tmp_path)).get(source)
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    in_file = await DatasetCache(None, tmp_path / "cache", Places(tmp_path)).get(source)
    assert (memory_of(in_memory) - memory_of(in_file)) == in_memory.samples.nbytes
    assert in_memory.sha256 == in_file.sha256
    np.testing.assert_array_equal(in_memory.duplicates.first, in_file.duplicates.first)
    assert list((tmp_path / "cache").iterdir()) == []


def folder_of(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:9]])
def test_packed_samples_that_are_not_as_many_as_the_header_says_are_corrupt(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(change(to_idx(SAMPLES.astype(np.uint8)))))
    assert refused(path, Corrupt, tmp_path).reason == "IDX_DAMAGED"
    path.write_bytes(gzip.compress(to_idx(SAMPLES.astype(np.uint8)))[:-100])
    assert refused(path, Corrupt, tmp_path).reason == "GZIP_DAMAGED"


@pytest.mark.usefixtures("all_large")
def test_a_disk_without_room_is_said_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "x.gz", SAMPLES.astype(np.uint8), "gzip")
    monkeypatch.setattr(scratch, "ARRAY_BYTES_MAX", 1_000)
    error = refused(path, LimitExceeded, tmp_path / "cache")
    assert (error.reason, error.field) == ("NO_ROOM", "name")
    assert "13,200 bytes" in error.message
    monkeypatch.undo()
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)

    def full(path: Path, size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(scratch, "reserve", full)
    assert refused(path, LimitExceeded, tmp_path / "cache").reason == "NO_ROOM"
    assert list((tmp_path / "cache").iterdir()) == []


def header_of(path: Path, shape: tuple[int, ...], size: int) -> Path:
    """A sparse .npy file of uint8 that holds as many bytes as its header says."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + size)
    return path


@pytest.mark.parametrize(
    ("shape", "size", "kind", "message"),
    [
        ((10**8 + 1, 1), 10**8 + 1, LimitExceeded, "100,000,001 samples"),
        ((2, 2**33), 2**34, LimitExceeded, "a sample takes 8,589,934,592 bytes"),
        ((10**6, 2**21), 10, Corrupt, "cut short"),
        ((-1, 5), 10, Corrupt, "its shape is"),
        ((1,) * 40, 10, Corrupt, "its shape is"),
        ((0, 5), 0, InvalidInput, "holds no samples"),
    ],
)
def test_hostile_headers_are_refused_before_values_are_read(
    tmp_path: Path, shape: tuple[int, ...], size: int, kind: type[LabelloopError], message: str
) -> None:
    path = header_of(tmp_path / "x.npy", shape, size)
    tracemalloc.start()
    error = refused(path, kind, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in error.message
    assert peak < 2**20


@given(st.binary(max_size=200))
def test_arbitrary_headers_raise_only_our_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x"
    path.write_bytes(b"\x93NUMPY" + data)
    refused(path, LabelloopError, path.parent)


@pytest.mark.parametrize("how", ["file", "gzip"])
async def test_memory_to_expect_leaves_out_what_stays_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(shards, "_ARRAY_BYTES_MAX", ONE_TILE)
    source = DatasetSource(name=str(written(tmp_path / "x", SAMPLES.astype(np.uint8), how)), classes="ab")
    reading = 1_100 * 24
    held = await DatasetCache(None, tmp_path, Places(tmp_path)).get(source)
    assert memory_of(held) == SAMPLES.size + reading
    assert held.read_s > 0
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    assert memory_of(await DatasetCache(None, tmp_path, Places(tmp_path)).get(source)) == reading


async def test_a_pool_takes_a_fraction_of_its_size_in_memory(tmp_path: Path) -> None:
    size = 384 * 2**20
    path = header_of(tmp_path / "x.npy", (size // 2**14, 2**14), size)
    cache = DatasetCache(None, tmp_path / "cache", Places(tmp_path))
    tracemalloc.start()
    dataset = await cache.get(DatasetSource(name=str(path), classes="ab"))
    pool = await publish(dataset, artifacts_in(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pool.sample_count == size // 2**14
    assert pool.duplicate_count == pool.sample_count - 1
    assert dataset.shard_digests[0] == sha256(bytes(4_000 * 2**14)).hexdigest()
    assert peak < size / 1.5
