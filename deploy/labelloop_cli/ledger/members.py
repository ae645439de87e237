"""Check what a zip archive says of its members before any is read. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from labelloop.errors import InvalidInput, LimitExceeded

EVENTS = "events.jsonl"
ARTIFACTS = "artifacts/"
MEMBERS_MAX = 500_000
_ARTIFACT = re.compile(rf"{ARTIFACTS}[0-9a-f]{{64}}")
_ARTIFACT_BYTES_MAX = 2**30
_EVENTS_BYTES_MAX = 2**34  # a million events of 1 KB, as JSON, are a sixteenth of it
_RATIO_MAX = 300  # what we write compresses zeros by 230
_FREE_BYTES = 2**26  # small archives may be compressed more
_HEADER_BYTES = 30
_ENCRYPTED = 0x1 | 0x40  # as in ZIP 2.0, and strongly


def check_members(members: Sequence[ZipInfo], size: int) -> None:
    """Check the members of an archive of ``size`` bytes.

    Raises:
        InvalidInput: If one is not of an exported run, is there twice, cannot be read, or shares bytes with another.
        LimitExceeded: If one is too large, or all together are.
    """
    for member in members:
        if fault := _fault(member, size):
            raise bad_archive(f"{_shown(member)} {fault}")
    names = [member.filename for member in members]
    if len({*names}) < len(names):
        raise bad_archive(f"{next(name for name in names if names.count(name) > 1)} is there twice")
    if EVENTS not in names:
        raise bad_archive(f"it has no {EVENTS}")
    for one, next_ in pairwise(sorted(members, key=lambda member: member.header_offset)):
        if _end(one) > next_.header_offset:
            raise bad_archive(f"{_shown(one)} and {_shown(next_)} share bytes")
    _check_sizes(members, size)


def _fault(member: ZipInfo, size: int) -> str:
    if member.filename != EVENTS and not _ARTIFACT.fullmatch(member.filename):
        return f"does not belong there: beside {EVENTS} there is only {ARTIFACTS}<SHA-256>"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return f"is compressed by method {member.compress_type}, which is not read here: deflate it"
    if member.compress_type == ZIP_STORED and member.compress_size != member.file_size:
        return "has two sizes"
    return "" if member.header_offset >= 0 and _end(member) <= size else "lies outside the file"


def _end(member: ZipInfo) -> int:
    """Return where a member ends at the earliest."""
    return member.header_offset + _HEADER_BYTES + len(member.filename) + member.compress_size


def _check_sizes(members: Sequence[ZipInfo], size: int) -> None:
    for member in members:
        most = _EVENTS_BYTES_MAX if member.filename == EVENTS else _ARTIFACT_BYTES_MAX
        if member.file_size > most:
            raise too_large(f"{_shown(member)} has {member.file_size:,} bytes, and {most:,} are allowed", most)
    total, most = sum(member.file_size for member in members), _RATIO_MAX * size + _FREE_BYTES
    if total > most:
        message = f"its {size:,} bytes would become {total:,}, which no export does"
        raise too_large(message, most)


def bad_archive(message: str) -> InvalidInput:
    message = f"this is not what `labelloop export --run` writes: {message}; export the run again"
    return InvalidInput("BAD_LEDGER", message, field="path")


def too_large(message: str, most: int) -> LimitExceeded:
    message = f"this is not what `labelloop export --run` writes: {message}; export the run again"
    return LimitExceeded("LEDGER_TOO_LARGE", message, field="path", most=most)


def _shown(member: ZipInfo) -> str:
    return repr(member.filename[:100])
