"""IDX, gzip and npy files: arrays are read as written, and any other content raises an error for users."""

from __future__ import annotations

import gzip
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labelloop.artifacts.idx import parse_idx
from labelloop.errors import Corrupt, InvalidInput
from numpy.typing import NDArray

from oracle_svc.datasets.reading import read_array

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def to_idx(array: NDArray[Any]) -> bytes:
    """``array`` as an IDX file."""
    dtype = array.dtype.str[1:]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[dtype], array.ndim, *array.shape)
    return header + array.astype(f">{dtype}").tobytes()


@given(st.sampled_from(sorted(CODES)).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_side=0))))
def test_an_array_written_as_idx_is_read_unchanged(array: NDArray[Any]) -> None:
    read = parse_idx(to_idx(array), "a file")
    assert read.dtype == array.dtype
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


@given(st.sampled_from(sorted(CODES.values())), st.integers(0, 255), st.binary(max_size=80))
def test_arbitrary_bytes_after_the_magic_number_raise_only_corrupt(code: int, dimensions: int, rest: bytes) -> None:
    with suppress(Corrupt):
        assert parse_idx(bytes([0, 0, code, dimensions]) + rest, "a file").ndim == dimensions


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\x07\x01", b"a,b\n1,2\n", b"PK\x03\x04an .npz"])
def test_a_file_of_unknown_format_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "pool"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"neither a \.npy file nor an IDX file") as caught:
        read_array(path)
    assert caught.value.reason == "UNKNOWN_FORMAT"
    assert caught.value.values == {"origin": str(path)}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:9]])
def test_an_idx_file_of_wrong_length_is_corrupt(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "pool"
    path.write_bytes(change(to_idx(np.ones((3, 4), np.uint8))))
    with pytest.raises(Corrupt, match="cut short or damaged") as caught:
        read_array(path)
    assert caught.value.values["origin"] == str(path)


def test_a_gzipped_idx_file_is_recognized_by_content_not_name(tmp_path: Path) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(gzip.compress(to_idx(np.arange(6, dtype=np.uint8).reshape(2, 3))))
    assert read_array(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("change", [lambda data: data[:-4], lambda data: data[:12] + b"\xff" * 8 + data[20:]])
def test_damaged_gzip_is_corrupt(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "pool.gz"
    path.write_bytes(change(gzip.compress(to_idx(np.arange(200, dtype=np.uint8).reshape(2, 100)))))
    with pytest.raises(Corrupt, match=r"pool\.gz is cut short or damaged"):
        read_array(path)


@pytest.mark.parametrize("length", [8, 40, 130])
def test_a_truncated_npy_file_is_corrupt(tmp_path: Path, length: int) -> None:
    path = tmp_path / "pool.npy"
    np.save(path, np.zeros((4, 5)))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Corrupt, match="cut short or damaged"):
        read_array(path)


def test_a_pickle_in_a_npy_file_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(Corrupt, match="Python objects"):
        read_array(tmp_path / "pool.npy")
