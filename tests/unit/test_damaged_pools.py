"""A pool with a damaged file is read, or refused with one of labelloop's errors, within bounds of memory and time."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelloop.errors import Corrupt, InvalidInput, LabelloopError, LimitExceeded, NotFound

from oracle_svc.datasets import Dataset, DatasetSource, load
from tests.e2e.nasty import damaged
from tests.examples import drawn
from tests.unit.damaged_pools import COUNT, POOLS

_GROWTH_MAX_KIB = 256 * 1024
_REFUSALS = (InvalidInput, NotFound, Corrupt, LimitExceeded)
some = drawn(100)
each_pool = pytest.mark.parametrize("kind", POOLS)


def loaded(source: DatasetSource, folder: Path) -> Dataset:
    return load(source, data_dir=None, cache_dir=folder / "cache")


def check_refusal(error: LabelloopError) -> None:
    assert isinstance(error, _REFUSALS)
    assert re.fullmatch("[A-Z][A-Z_]+", error.reason)
    assert error.message


@each_pool
def test_an_undamaged_pool_is_read(kind: str, tmp_path: Path) -> None:
    source, _ = POOLS[kind](tmp_path)
    assert len(loaded(source, tmp_path).samples) == COUNT


@each_pool
def test_a_damaged_file_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    source, path = POOLS[kind](tmp_path)
    whole = path.read_bytes()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @some
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        path.write_bytes(data.draw(damaged(whole)))
        with TemporaryDirectory(dir=tmp_path) as cache:
            try:
                loaded(source, Path(cache))
            except LabelloopError as error:
                check_refusal(error)

    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < _GROWTH_MAX_KIB
