"""Open the samples in array files: .npy, IDX, gzipped IDX, and folders of .npy files."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from labelloop.artifacts.idx import HEADER_BYTES_MAX, check_magic, damaged, idx_header
from labelloop.domain.abandonment import wanted
from labelloop.domain.limits import COUNT_MAX
from labelloop.domain.sample_array import SampleValues
from labelloop.errors import LimitExceeded
from numpy.typing import NDArray

from .array_file import ArrayFile
from .arrays import as_values, values_dtype
from .file_access import entries_of, is_file, is_folder, open_file
from .file_names import is_of_desktop
from .reading import DATA_BYTES_MAX, GZIP_MAGIC, damage_named
from .scratch import ARRAY_BYTES_MAX, allocated, is_small
from .stored_array import StoredArray

SAMPLES_MAX = 100_000_000  # each takes 24 bytes of memory while equal ones are looked for
_UNPACK = "unpack it, because unpacked files are read where they are"
_TILE = 250  # samples that are held in memory at once, at least
_PART_BYTES = 16 * 1024 * 1024


class ArraySamples(NamedTuple):
    """Samples ``[N, *shape]``, each value of which is checked when it is read, and notes on what was found."""

    samples: SampleValues
    notes: tuple[str, ...]


def is_array_folder(folder: Path) -> bool:
    """Return whether all that ``folder`` holds, files of desktops aside, are .npy files."""
    try:
        entries = _entries(folder)
    except OSError:  # reading it says why
        return False
    return bool(entries) and all(path.suffix.lower() == ".npy" and is_file(path) for path in entries)


def array_files(folder: Path) -> list[Path]:
    """Return the .npy files of a folder, by name."""
    return sorted(_entries(folder))


def read_samples(path: Path, cache_dir: Path, field: str) -> ArraySamples:
    """Read the samples of a file or of a folder of .npy files: into memory up to 64 MiB, else part by part.

    Args:
        path: The file or folder.
        cache_dir: Where gzipped files are unpacked.
        field: The setting that names ``path``, for errors.

    Raises:
        InvalidInput: It is another kind of file, files of a folder differ, or a value that was read is out of range.
        Corrupt: A file is damaged.
        LimitExceeded: There are too many samples, or they are too large.
        OSError: A file cannot be read.
    """
    if is_folder(path):
        paths = array_files(path)
        return ArraySamples(_opened([ArrayFile.at(each) for each in paths], field), _notes(paths))
    with open_file(path) as file:
        is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    if is_packed:
        return ArraySamples(_unpacked(path, cache_dir, field), ())
    return ArraySamples(_opened([ArrayFile.at(path)], field), ())


def _opened(files: Sequence[ArrayFile], field: str) -> SampleValues:
    stored = StoredArray(files, field)
    _check_limits(stored.shape, stored.dtype, str(files[0].path), field)
    return stored[:] if is_small(stored.nbytes) else stored


def _unpacked(path: Path, cache_dir: Path, field: str) -> NDArray[Any]:
    """Unpack a gzipped IDX file, whose header says how much that is before anything is written."""
    origin = str(path)
    with open_file(path) as packed, gzip.open(packed) as file:
        with damage_named(origin):
            head = file.read(HEADER_BYTES_MAX)
        check_magic(head, origin)
        header = idx_header(head, origin)
        dtype = values_dtype(header.shape, header.dtype, origin, field)
        _check_limits(header.shape, dtype, origin, field)
        samples = allocated(cache_dir, header.shape, dtype, origin, field, _UNPACK)
        row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
        at_once, held = max(1, _PART_BYTES // row_bytes), head[header.offset :]
        for start in wanted(range(0, len(samples), at_once)):
            part = samples[start : start + at_once]
            size = len(part) * row_bytes
            with damage_named(origin):
                held += file.read(max(0, size - len(held)))
            if len(held) < size:
                raise damaged(origin, len(samples) * row_bytes, start * row_bytes + len(held))
            raw = np.frombuffer(held[:size], header.dtype).reshape(part.shape)
            part[...] = as_values(raw, origin, field, first_row=start)
            held = held[size:]
        with damage_named(origin):
            rest = held or file.read(1)
        if rest:
            raise damaged(origin, len(samples) * row_bytes, len(samples) * row_bytes + 1)
    return samples


def _check_limits(shape: tuple[int, ...], dtype: np.dtype[Any], origin: str, field: str) -> None:
    size, sample_bytes = math.prod(shape) * dtype.itemsize, math.prod(shape[1:]) * dtype.itemsize
    why = ""
    if shape[0] > min(SAMPLES_MAX, COUNT_MAX):
        why = f"it holds {shape[0]:,} samples, more than {SAMPLES_MAX:,}"
    elif size > ARRAY_BYTES_MAX:
        why = f"it holds {size:,} bytes, more than 1 TiB"
    elif sample_bytes * min(shape[0], _TILE) > DATA_BYTES_MAX:
        room = f"{DATA_BYTES_MAX / 1024**3:.1f} GiB"
        why = f"a sample takes {sample_bytes:,} bytes, and {_TILE} of them do not fit into {room}"
    if why:
        raise LimitExceeded("DATA_TOO_LARGE", f"{origin}: {why}; split the pool, or make samples smaller", field=field)


def _entries(folder: Path) -> list[Path]:
    return [path for path in entries_of(folder) if not is_of_desktop(path.name)]


def _notes(paths: Sequence[Path]) -> tuple[str, ...]:
    names = f"{paths[0].name} to {paths[-1].name}" if len(paths) > 1 else paths[0].name
    note = f"{len(paths):,} .npy file{'s' * (len(paths) > 1)} read one after the other, by name: {names}"
    by_number = sorted(paths, key=lambda path: _numbered(path.name))
    for path, other in zip(paths, by_number, strict=True):
        if path != other:
            note += f" (names are compared as text: {path.name} comes before {other.name})"
            break
    return (note,)


def _numbered(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
