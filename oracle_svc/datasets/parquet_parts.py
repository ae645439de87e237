"""Recognise a folder of Parquet files that together are one table."""

from __future__ import annotations

from pathlib import Path

from labelloop.errors import InvalidInput, LimitExceeded

from .file_access import entries_of, is_file, is_folder

SUFFIXES = (".parquet", ".pq")
_PARTS_MAX = 10_000
_HIDDEN = (".", "_")  # programs that write such folders leave notes of their own there, such as _SUCCESS


def is_parquet_folder(folder: Path) -> bool:
    """Return whether ``folder`` holds Parquet files and nothing else that is visible."""
    try:
        visible = [path for path in entries_of(folder) if not path.name.startswith(_HIDDEN)]
    except OSError:  # no folder, or one that may not be read, as its reader says
        return False
    return bool(visible) and all(path.suffix.lower() in SUFFIXES and is_file(path) for path in visible)


def parts_of(path: Path, field: str) -> list[Path]:
    """Return the files of a table in their order: ``path`` itself, or the Parquet files in that folder by name.

    Raises LimitExceeded for too many.
    """
    if not is_folder(path):
        return [path]
    parts = sorted(each for each in entries_of(path) if not each.name.startswith(_HIDDEN))
    if len(parts) > _PARTS_MAX:
        message = f"{path} holds {len(parts):,} files, more than {_PARTS_MAX:,}: write fewer, larger ones"
        raise LimitExceeded("TOO_MANY_FILES", message, field=field, path=path, most=_PARTS_MAX)
    return parts


def parts_note(folder: Path) -> str:
    """Return a sentence about the files of a folder."""
    parts = parts_of(folder, "")
    hidden = sum(1 for _ in entries_of(folder)) - len(parts)
    left_out = f"; {hidden:,} that begin with '.' or '_' are left out" if hidden else ""
    return f"{len(parts):,} Parquet files are one table, in the order of their names from {parts[0].name!r}{left_out}"


def other_columns(part: Path, first: Path, why: str, field: str) -> InvalidInput:
    """Return the error for a file whose columns are not those of the first."""
    message = f"{part} does not belong to the table of {first.name}: {why}; write all files with the same columns"
    return InvalidInput("OTHER_COLUMNS", message, field=field, path=part)
