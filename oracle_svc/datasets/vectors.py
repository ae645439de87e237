"""Read vectors that models are to see: an array in .npy, or names and an array in .npz."""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from labelloop.domain.class_names import comparable
from labelloop.errors import Corrupt, InvalidInput
from numpy.typing import NDArray

from . import reading
from .arrays import as_values
from .file_access import is_folder, open_file
from .split import existing

_ZIP_MAGIC = b"PK\x03\x04"
_MEMBERS = ("names.npy", "embeddings.npy")


@dataclass(frozen=True)
class Vectors:
    """Vectors ``[n, values]``, and the name of each in NFC; None if they have none."""

    values: NDArray[np.float32]
    names: Sequence[str] | None


def read_vectors(text: str, field: str) -> Vectors:
    """Read the vectors at the path ``text``; ``field`` names the setting at fault in errors.

    Raises:
        InvalidInput: They are not ``[n, values]`` finite numbers, or names are not one for each, all different.
        NotFound: There is no such file.
        Corrupt: It is damaged.
        LimitExceeded: It holds too much.
    """
    path = existing(text, field)
    try:
        if is_folder(path):
            raise _refusal("EMBEDDINGS_FORMAT", f"{path} is a folder: name a .npy or .npz file", field)
        with open_file(path) as file:
            is_archive = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        if not is_archive:
            return Vectors(_checked(reading.read_array(path), path, field), None)
        names, values = _members(path, field)
    except OSError as error:
        raise _refusal("UNREADABLE", f"{field} cannot be read: {error}", field) from error
    return Vectors(_checked(values, path, field), _names(names, len(values), path, field))


def _checked(raw: NDArray[Any], path: Path, field: str) -> NDArray[np.float32]:
    if raw.ndim != 2 or not raw.size:
        what = f"has the shape {raw.shape}, but vectors are [samples, values]: give each sample a row"
        raise _refusal("EMBEDDINGS_SHAPE", f"{path} {what}", field)
    if raw.dtype.kind not in "fiu":
        raise _refusal("EMBEDDINGS_DTYPE", f"{path} holds {raw.dtype}, but vectors are numbers: save float32", field)
    return np.asarray(as_values(raw.astype(np.float64 if raw.dtype.kind in "iu" else raw.dtype), str(path), field))


def _names(raw: NDArray[Any], count: int, path: Path, field: str) -> list[str]:
    if raw.ndim != 1 or raw.dtype.kind != "U":
        what = f"names are {raw.dtype} of shape {raw.shape}, not a list of strings: save np.array(names, str)"
        raise _refusal("EMBEDDINGS_FORMAT", f"{path}: {what}", field)
    if len(raw) != count:
        message = f"{path} has {len(raw):,} names for {count:,} vectors: there must be one for each"
        raise _refusal("EMBEDDINGS_COUNT", message, field)
    names = [comparable(name) for name in raw.tolist()]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise _refusal("EMBEDDINGS_NAMED_TWICE", f"{path} names {name!r} {times} times: leave one vector each", field)
    return names


def _members(path: Path, field: str) -> list[NDArray[Any]]:
    """Return the arrays ``_MEMBERS`` of an archive, whose sizes are checked before they are unpacked."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            if sorted(archive.namelist()) != sorted(_MEMBERS):
                found = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:10])
                message = f"{path} holds {found or 'nothing'}, not names and embeddings: save both with numpy.savez"
                raise _refusal("EMBEDDINGS_FORMAT", message, field)
            reading.check_size(sum(archive.getinfo(name).file_size for name in _MEMBERS), str(path))
            return [_member(archive, name, path) for name in _MEMBERS]
    # zipfile raises the last two for a compression that it does not know and for encrypted files.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        message = f"{path} cannot be unpacked ({error}): save it again with numpy.savez"
        raise Corrupt("NPZ_DAMAGED", message, path=path) from error


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    try:
        with archive.open(name) as file:
            _check_header(file, archive.getinfo(name).file_size)
        with archive.open(name) as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, TypeError, SyntaxError, MemoryError) as error:  # of a broken header or Python objects
        message = f"{path}: {name} is damaged, or holds Python objects ({error}): save it again with numpy.savez"
        raise Corrupt("NPY_DAMAGED", message, path=path) from error
    return array


def _check_header(file: IO[bytes], size: int) -> None:
    """Raise ValueError if the header promises more than the ``size`` bytes that there are, before memory is taken."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if not dtype.hasobject and int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
        raise ValueError(f"{shape} values of {dtype} do not fit into {size} bytes")


def _refusal(reason: str, message: str, field: str) -> InvalidInput:
    return InvalidInput(reason, message, field=field)
