"""Equal samples of a pool: found, published and noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.formats import decode_duplicates, encode_duplicates
from labelloop.domain.duplicates import Duplicates
from labelloop.domain.event_schema import shape_fault
from labelloop.errors import Corrupt
from labelloop.events.v1.events_pb2 import DatasetSource, Event
from numpy.typing import NDArray
from safetensors.numpy import save

from oracle_svc.datasets.dataset import Dataset, Original
from oracle_svc.datasets.duplicates import first_equal, with_duplicates
from tests.published import artifacts_in, published

VALUES = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def dataset(samples: NDArray[Any], labels: list[int] | None = None, files: list[str] | None = None) -> Dataset:
    known = None if labels is None else np.array(labels, np.int32)
    originals = [Original(Path(f"{place}.png"), digest) for place, digest in enumerate(files or [])]
    return Dataset("pool", "", False, samples, known, ("a", "b", "c"), None, None, originals=originals)


def firsts(values: list[Any]) -> list[int]:
    return [values.index(value) for value in values]


@given(VALUES)
def test_each_sample_is_traced_to_the_first_that_equals_it(values: list[int]) -> None:
    for samples in (
        np.array(values, np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8),
        np.array(values, np.float32)[:, None] / 7,
        np.array([f"text {value}" for value in values], object),
    ):
        found = first_equal(dataset(samples))
        assert found.dtype == np.int32
        assert found.tolist() == firsts(values)


NAN = np.array([0, 1, np.nan], np.float32)
OTHER_NAN = NAN.copy()
OTHER_NAN.view(np.uint32)[2] |= 1


@pytest.mark.parametrize(
    ("samples", "first"),
    [
        (np.arange(50, dtype=np.uint8).reshape(2, 5, 5).transpose(0, 2, 1)[[1, 1]], [0, 0]),
        (np.stack([NAN, OTHER_NAN, -NAN * [1, -1, 1]]).astype(np.float32), [0, 0, 0]),
        (np.array(["a", "b", "a", "\ud800"], object), [0, 1, 0, 3]),
        (np.array([[0, 0], [0, 1], [0, 0], [1, 0], [1, 0]], np.uint8), [0, 1, 0, 3, 3]),
    ],
)
def test_equal_values_are_equal_however_they_are_stored(samples: NDArray[Any], first: list[int]) -> None:
    assert first_equal(dataset(samples)).tolist() == first


@given(values=VALUES, data=st.data())
def test_pictures_are_equal_only_if_their_files_are(values: list[int], data: st.DataObject) -> None:
    count = len(values)
    files = data.draw(st.lists(st.sampled_from(["a" * 64, "b" * 64]), min_size=count, max_size=count))
    pool = dataset(np.array(values, np.uint8)[:, None], files=files)
    assert first_equal(pool).tolist() == firsts([*zip(values, files, strict=True)])


@given(values=VALUES, data=st.data())
def test_duplicates_are_read_back_as_they_were(values: list[int], data: st.DataObject) -> None:
    found = Duplicates.of(np.array(firsts(values), np.int32))
    read = decode_duplicates(encode_duplicates(found), len(values))
    assert len(read) == len(values) - len({*values})
    some = data.draw(st.lists(st.integers(0, len(values) - 1)))
    assert read.first_of(np.array(some, np.uint32)).tolist() == [firsts(values)[each] for each in some]
    assert read.ids.tolist() == [place for place, first in enumerate(firsts(values)) if place != first]


@pytest.mark.parametrize(
    "arrays",
    [
        {"duplicates": np.array([1], np.uint32)},
        {"duplicates": np.array([1], np.int64), "first": np.array([0], np.int64)},
        {"duplicates": np.array([[1]], np.uint32), "first": np.array([[0]], np.uint32)},
        {"duplicates": np.array([1, 2], np.uint32), "first": np.array([0], np.uint32)},
        {"duplicates": np.array([2, 1], np.uint32), "first": np.array([0, 0], np.uint32)},
        {"duplicates": np.array([1, 1], np.uint32), "first": np.array([0, 0], np.uint32)},
        {"duplicates": np.array([1, 2], np.uint32), "first": np.array([0, 1], np.uint32)},
        {"duplicates": np.array([1], np.uint32), "first": np.array([1], np.uint32)},
        {"duplicates": np.array([3], np.uint32), "first": np.array([0], np.uint32)},
    ],
)
def test_an_artifact_that_contradicts_itself_or_the_pool_is_refused(arrays: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(Corrupt, match="holds no duplicates"):
        decode_duplicates(save(arrays), sample_count=3)


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0{}      "])
def test_bytes_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_duplicates(data, sample_count=3)


def test_notes_say_how_many_samples_are_not_asked_for_and_which_labels_differ() -> None:
    values = np.array([5, 5, 6, 6, 6, 7], np.uint8)[:, None]
    alike, torn = (
        with_duplicates(dataset(values, [0, 0, 1, 1, 1, 2])),
        with_duplicates(dataset(values, [0, 1, 1, 1, 2, 2])),
    )
    assert alike.notes == ("3 of 6 samples equal an earlier one: they are not asked for, and share its label",)
    assert torn.notes[1].startswith("2 groups of equal samples have different labels in the dataset: ")
    one = with_duplicates(dataset(values, [0, 0, 1, 0, 0, 2]))
    assert one.notes[1].startswith("1 group of equal samples has different labels in the dataset: ")
    assert with_duplicates(dataset(values)).notes == alike.notes


def test_a_pool_without_duplicates_has_no_note() -> None:
    alone = with_duplicates(dataset(np.arange(4, dtype=np.uint8)[:, None], [0, 1, 2, 0]))
    assert (len(alone.duplicates), alone.notes) == (0, ())


async def test_equal_samples_are_published_and_read_back(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([5, 6, 5, 7, 6], np.uint8)[:, None])
    np.save(tmp_path / "y.npy", np.array([0, 1, 0, 0, 0]))
    pool = await published(DatasetSource(name=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy")), tmp_path)
    stored = await artifacts_in(tmp_path).get(pool.duplicates_sha256)
    found = decode_duplicates(stored, pool.sample_count)
    assert (found.ids.tolist(), found.first.tolist(), pool.duplicate_count) == ([2, 4], [0, 1], 2)
    assert not shape_fault(Event(pool_published=pool))


async def test_a_pool_without_equal_samples_is_published_as_before(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5, dtype=np.uint8)[:, None])
    pool = await published(DatasetSource(name=str(tmp_path / "x.npy"), classes=["a", "b"]), tmp_path)
    assert (pool.duplicates_sha256, pool.duplicate_count) == ("", 0)
