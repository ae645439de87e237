"""Samples of an earlier pool, found in a dataset that was edited."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.artifacts.formats import sample_digest
from labelloop.errors import NotFound, WrongState

from oracle_svc.datasets.dataset import Dataset
from oracle_svc.datasets.matching import found_ids, ids_of


def dataset(values: list[int], names: list[str] | None = None) -> Dataset:
    samples = np.array(values, np.uint8)[:, None]
    return Dataset("pool", "", False, samples, None, ("a", "b"), None, None, names=names or ())


def found(sample_ids: list[int], before: Dataset, after: Dataset) -> list[int]:
    digests = [sample_digest(before.samples[sample_id]) for sample_id in sample_ids]
    names = [before.names[sample_id] if before.names else "" for sample_id in sample_ids]
    return found_ids(sample_ids, digests, names, after)


@given(
    values=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    added=st.lists(st.integers(0, 5), max_size=5),
    seed=st.integers(0, 999),
    named=st.booleans(),
)
def test_found_samples_have_the_same_content_and_places_of_their_own(
    values: list[int], added: list[int], seed: int, named: bool
) -> None:
    random = Random(seed)
    before = dataset(values, [f"{place}.png" for place in range(len(values))] if named else None)
    rows = [*zip(values, before.names or [""] * len(values), strict=True), *((value, f"new{value}") for value in added)]
    random.shuffle(rows)
    after = dataset([value for value, _ in rows], [name or f"{i}.png" for i, (_, name) in enumerate(rows)])
    sample_ids = random.sample(range(len(values)), random.randint(1, len(values)))
    places = found(sample_ids, before, after)
    assert len({*places}) == len(sample_ids)
    assert [after.samples[place, 0] for place in places] == [values[sample_id] for sample_id in sample_ids]
    if named:
        assert [after.names[place] for place in places] == [before.names[sample_id] for sample_id in sample_ids]


@given(values=st.lists(st.integers(0, 3), min_size=1, max_size=12), added=st.lists(st.integers(0, 3), max_size=5))
def test_samples_of_a_prefix_keep_their_ids(values: list[int], added: list[int]) -> None:
    sample_ids = list(range(len(values)))
    assert found(sample_ids, dataset(values), dataset(values + added)) == sample_ids


def test_a_sample_that_is_gone_is_named() -> None:
    with pytest.raises(WrongState, match=r"'b.png' \(sample 1\).* is not in pool"):
        found([0, 1], dataset([1, 2], ["a.png", "b.png"]), dataset([1, 3], ["a.png", "c.png"]))


def test_a_file_with_other_content_is_not_taken_for_the_sample_of_its_name() -> None:
    with pytest.raises(WrongState, match=r"'b\.png'.*has other content now"):
        found([1], dataset([1, 2], ["a.png", "b.png"]), dataset([1, 3], ["a.png", "b.png"]))


def test_equal_samples_are_not_found_twice_in_one_place() -> None:
    with pytest.raises(WrongState, match="sample 1"):
        found([0, 1], dataset([7, 7]), dataset([7, 8]))


def test_an_unknown_name_is_refused_with_a_near_match() -> None:
    with pytest.raises(NotFound, match=r"'cat1\.jpg'; did you mean 'cat1\.png'"):
        ids_of(["cat1.jpg"], ["dog.png", "cat1.png"])


def test_names_are_found_as_people_type_them() -> None:
    pool = [" a.png", "caf\u00e9.png", "b.png", " b.png"]
    assert ids_of(["a.png", "cafe\u0301.png", "b.png", " b.png"], pool) == [0, 1, 2, 3]
