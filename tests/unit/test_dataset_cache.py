"""Datasets read from files that change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import DatasetSource
from PIL import Image

from oracle_svc.datasets.cache import DatasetCache
from oracle_svc.datasets.fingerprint import fingerprint
from oracle_svc.datasets.places import Places
from tests.blobs import Blobs, write_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return write_blobs(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> DatasetCache:
    return DatasetCache(None, tmp_path / "cache", Places(tmp_path))


def settle(*paths: Path) -> None:
    """Wait until a change of these files must show in what the file system records of them."""
    while not fingerprint(paths).is_settled(time.time()):
        time.sleep(0.1)  # no event tells that time has passed


async def test_files_that_change_are_read_again(cache: DatasetCache, blobs: Blobs) -> None:
    before = await cache.get(blobs.source())
    np.save(blobs.labels, (np.load(blobs.labels) + 1) % 3)
    after = await cache.get(blobs.source())
    assert before.labels is not None
    assert after.labels is not None
    assert ((before.labels + 1) % 3 == after.labels).all()
    assert before.sha256 != after.sha256


async def test_files_that_do_not_change_are_read_once(cache: DatasetCache, blobs: Blobs) -> None:
    settle(blobs.samples, blobs.labels, blobs.evaluation, blobs.evaluation_labels)
    assert (await cache.get(blobs.source())) is (await cache.get(blobs.source()))


async def test_a_change_that_keeps_size_and_modification_time_is_noticed(cache: DatasetCache, blobs: Blobs) -> None:
    settle(blobs.samples)
    before = await cache.get(blobs.source())
    recorded = blobs.samples.stat()
    data = bytearray(blobs.samples.read_bytes())
    data[-1] ^= 1
    blobs.samples.write_bytes(data)
    os.utime(blobs.samples, ns=(recorded.st_atime_ns, recorded.st_mtime_ns))
    assert (await cache.get(blobs.source())).sha256 != before.sha256


async def test_a_file_added_to_a_folder_of_class_folders_is_noticed(cache: DatasetCache, tmp_path: Path) -> None:
    for name in ("a/1", "b/1"):
        path = tmp_path / "pool" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (4, 4)).save(path)
    settle(tmp_path / "pool")
    source = DatasetSource(name=str(tmp_path / "pool"))
    assert len((await cache.get(source)).samples) == 2
    Image.new("L", (4, 4)).save(tmp_path / "pool/a/0.png")
    assert len((await cache.get(source)).samples) == 3


async def test_equal_content_has_one_digest_whatever_the_files_are_called(cache: DatasetCache, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = write_blobs(tmp_path / "one"), write_blobs(tmp_path / "other")
    assert (await cache.get(one.source())).sha256 == (await cache.get(other.source())).sha256


@pytest.mark.parametrize("part", ["samples", "labels", "evaluation", "evaluation_labels"])
async def test_every_part_of_a_dataset_decides_its_digest(cache: DatasetCache, blobs: Blobs, part: str) -> None:
    before = await cache.get(blobs.source())
    path = getattr(blobs, part)
    values = np.load(path)
    values[3] = (values[3] + 1) % 3
    np.save(path, values)
    assert (await cache.get(blobs.source())).sha256 != before.sha256


async def test_a_limit_draws_from_all_classes_unless_its_seed_is_0(cache: DatasetCache, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(100, dtype=np.uint8)[:, None])
    np.save(tmp_path / "y.npy", np.repeat([0, 1], 50))
    source = DatasetSource(name=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy"), sample_limit=20)
    first = await cache.get(source)
    assert first.samples[:].ravel().tolist() == list(range(20))
    source.limit_seed = 1
    drawn = await cache.get(source)
    assert drawn.labels is not None
    assert len(drawn.samples) == 20
    assert sorted(drawn.samples[:].ravel().tolist()) == drawn.samples[:].ravel().tolist()
    assert (drawn.labels == drawn.samples[:].ravel() // 50).all()
    assert {*drawn.labels.tolist()} == {0, 1}
    assert "20 of 100" in drawn.notes[-1]


async def test_a_path_outside_the_pools_folder_is_refused_before_it_is_examined(tmp_path: Path, blobs: Blobs) -> None:
    cache = DatasetCache(None, tmp_path, Places(tmp_path / "allowed"))
    for name in (str(blobs.samples), str(tmp_path / "absent.npy")):
        with pytest.raises(InvalidInput, match="outside") as refused:
            await cache.get(DatasetSource(name=name))
        assert refused.value.field == "dataset.name"


async def test_a_missing_file_is_named_each_time(cache: DatasetCache, blobs: Blobs) -> None:
    blobs.labels.unlink()
    for _ in range(2):
        with pytest.raises(NotFound, match="labels") as missing:
            await cache.get(blobs.source())
        assert missing.value.field == "dataset.labels"
