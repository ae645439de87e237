"""Encoded texts: read back exactly, refused where bytes are none, and cut into bounded shards."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.formats import TILE_SAMPLES, decode_evaluation, dtype_name, encode_evaluation, sample_shape
from labelloop.artifacts.texts import decode_texts, encode_texts
from labelloop.errors import Corrupt
from numpy.typing import NDArray

from oracle_svc.datasets import shards
from oracle_svc.datasets.shards import shards_of


def array_of(*texts: str) -> NDArray[np.object_]:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_are_read_back_exactly(texts: list[str]) -> None:
    assert decode_texts(encode_texts(texts)).tolist() == texts


@given(st.binary(max_size=64))
def test_any_bytes_are_texts_or_refused(data: bytes) -> None:
    with suppress(Corrupt):
        assert len(encode_texts(decode_texts(data).tolist())) == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        encode_texts(["a"])[:-1],
        encode_texts(["a"]) + b"b",
        np.array([24, 30, 26], "<i8").tobytes() + b"ab",
        np.array([16, 17], "<i8").tobytes() + b"\xff",
        np.array([-8], "<i8").tobytes(),
    ],
)
def test_damaged_texts_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt, match="no encoded texts"):
        decode_texts(data)


def test_an_evaluation_set_of_texts_is_read_back() -> None:
    texts, labels = array_of("a", "", "אב 😀"), np.array([0, 1, 0], np.int32)
    read, read_labels = decode_evaluation(encode_evaluation(texts, labels))
    assert read.tolist() == texts.tolist()
    assert read_labels.tolist() == labels.tolist()
    assert (dtype_name(read), sample_shape(read)) == ("utf8", (1,))


def test_a_pool_that_fits_is_one_shard_of_its_bytes() -> None:
    samples = np.arange(600 * 4, dtype=np.float32).reshape(600, 2, 2)
    assert list(shards_of(samples)) == [(samples.tobytes(), 600)]
    assert dtype_name(samples) == "float32"
    assert sample_shape(samples) == (2, 2)


def test_large_samples_are_cut_into_whole_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_ARRAY_BYTES_MAX", 2 * TILE_SAMPLES * 4)
    samples = np.arange(1_100 * 4, dtype=np.uint8).reshape(1_100, 4)
    cut = list(shards_of(samples))
    assert [count for _, count in cut] == [500, 500, 100]
    assert b"".join(data for data, _ in cut) == samples.tobytes()


def test_texts_are_cut_into_whole_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_TEXT_BYTES_MAX", 3 * TILE_SAMPLES)
    texts = array_of(*(["a"] * 1_000 + ["long" * 10] * 250 + ["b"] * 3))
    cut = list(shards_of(texts))
    assert [count for _, count in cut] == [750, 250, 250, 3]
    assert np.concatenate([decode_texts(data) for data, _ in cut]).tolist() == texts.tolist()


def test_many_short_texts_are_cut_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 500)
    assert [count for _, count in shards_of(array_of(*["a"] * 1_001))] == [500, 500, 1]
