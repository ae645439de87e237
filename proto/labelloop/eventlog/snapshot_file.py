"""Keep one message in a file that is replaced as a whole, and read it with care. Blocks on the disk."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from google.protobuf.message import DecodeError

from labelloop.errors import Corrupt, LimitExceeded, NotAllowed, NotFound
from labelloop.runtime.crash_points import crash_point
from labelloop.snapshots.v1.snapshots_pb2 import Snapshot

BYTES_MAX = 2**30
_MAGIC = b"labelloop snapshot\n"
_DIGEST_BYTES = 32
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def write_snapshot(path: Path, snapshot: Snapshot) -> int:
    """Replace the file by ``snapshot``, and return its bytes. A process that is killed leaves the file as it was.

    Raises:
        LimitExceeded: If it takes more than ``BYTES_MAX``.
        OSError: If the folder cannot hold it.
    """
    data = snapshot.SerializeToString()
    if len(data) > BYTES_MAX:
        message = f"a snapshot of {len(data)} bytes is larger than {BYTES_MAX}: archive runs that have ended"
        raise LimitExceeded("SNAPSHOT_TOO_LARGE", message, most=BYTES_MAX)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".draft", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(data).digest())
            crash_point("before keep snapshot")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return len(data)


def read_snapshot(path: Path) -> Snapshot:
    """Read the file that :func:`write_snapshot` wrote.

    Raises:
        NotFound: If there is none.
        NotAllowed: If it belongs to another user, or others may write it.
        LimitExceeded: If it is larger than ``BYTES_MAX``.
        Corrupt: If it was damaged.
        OSError: If it cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound("NO_SNAPSHOT", f"there is no file {path}") from error
    with os.fdopen(handle, "rb") as file:
        _check(path, os.fstat(file.fileno()))
        data = file.read(len(_MAGIC) + _DIGEST_BYTES + BYTES_MAX)
    head, digest, body = data[: len(_MAGIC)], data[len(_MAGIC) :][:_DIGEST_BYTES], data[len(_MAGIC) + _DIGEST_BYTES :]
    if head != _MAGIC or hashlib.sha256(body).digest() != digest:
        raise Corrupt("BAD_SNAPSHOT", f"{path} is damaged, or no snapshot")
    try:
        return Snapshot.FromString(body)
    except DecodeError as error:
        raise Corrupt("BAD_SNAPSHOT", f"{path} cannot be read: {error}") from error


def remove_drafts(path: Path, older_than: float) -> None:
    """Remove what processes that were killed left of their writes before ``older_than``, in seconds since the epoch."""
    for draft in path.parent.glob(f"{path.name}.*.draft"):
        if draft.stat().st_mtime < older_than:
            draft.unlink(missing_ok=True)


def remove_older(folder: Path, pattern: str, kept: int) -> None:
    """Remove the files of that name that were written least recently, but for the ``kept`` newest ones."""
    found = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in found[kept:]:
        file.unlink(missing_ok=True)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotAllowed("UNSAFE_SNAPSHOT", f"{path} is no file")
    if status.st_uid != os.getuid() or status.st_mode & _OTHERS_MAY_WRITE:
        raise NotAllowed("UNSAFE_SNAPSHOT", f"others may write {path}: remove it")
    if status.st_size > len(_MAGIC) + _DIGEST_BYTES + BYTES_MAX:
        raise LimitExceeded("SNAPSHOT_TOO_LARGE", f"{path} is larger than {BYTES_MAX} bytes: remove it", most=BYTES_MAX)
