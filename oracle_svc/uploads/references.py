"""Read references to uploads in the paths of a dataset. Pure functions."""

from __future__ import annotations

import re

from labelloop.artifacts.upload_manifest import PREFIX, name_fault
from labelloop.errors import InvalidInput

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_reference(path: str) -> bool:
    return path.startswith(PREFIX)


def parsed(reference: str, field: str) -> tuple[str, str]:
    """Return the id of the upload, and the name below it or "" for its only file or folder. Raises InvalidInput."""
    upload_id, slash, name = reference.removeprefix(PREFIX).partition("/")
    if slash and (fault := name_fault(name)):
        message = f"{field}: {reference!r} names no file of an upload: its name {fault}"
        raise InvalidInput("BAD_UPLOAD", message, field=field, reference=reference)
    return checked_id(upload_id, field), name


def checked_id(upload_id: str, field: str) -> str:
    """Return ``upload_id``; raise InvalidInput unless it is 64 hex digits."""
    if not _DIGEST.fullmatch(upload_id):
        message = f"{field}: {upload_id!r} is no id of an upload, 64 hex digits: `labelloop pool list` shows them"
        raise InvalidInput("BAD_UPLOAD", message, field=field, upload_id=upload_id)
    return upload_id
