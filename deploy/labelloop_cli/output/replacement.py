"""Refuse to write over files that a command like this one did not write."""

from __future__ import annotations

from pathlib import Path

from labelloop.errors import InvalidInput

TABLE, PARQUET, PAGE, ARCHIVE, MODEL = b'"id"', b"PAR1", b"<!doctype html>", b"PK\x03\x04", b"\x08"
"""What files begin with that commands write: tables of labels, reports, exports of runs, ONNX models."""


def check_replaceable(output: Path, begins: bytes) -> None:
    """Raise InvalidInput if ``output`` is there and not empty, but does not begin with ``begins``.

    What begins so was written by the same command, and is replaced by what is newer.
    """
    if not output.is_file():
        return
    with output.open("rb") as file:
        head = file.read(len(begins))
    if head and head != begins:
        message = (
            f"{output} is not written over: it is no file that this command writes, and may be somebody's work; move "
            "it, or name another file with --output"
        )
        raise InvalidInput("FILE_EXISTS", message, field="output", path=output)
