"""Read JSON Lines: one JSON object in each line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from labelloop.errors import InvalidInput, LimitExceeded

from .file_access import open_file
from .row import CELL_CHARACTERS_MAX, Row

_LINE_BYTES_MAX = 8 * CELL_CHARACTERS_MAX


def read_jsonl(path: Path, columns: Sequence[str], field: str) -> Iterator[Row]:
    """Yield a row for each line that is not blank. See :func:`oracle_svc.datasets.rows.read_rows`.

    An object without one of ``columns`` is a row with a fault, but the first one must have them all.
    """
    seen = False
    with open_file(path) as file:
        number = 0
        while line := file.readline(_LINE_BYTES_MAX):
            number += 1
            if len(line) >= _LINE_BYTES_MAX:
                message = f"{path}, line {number} has {_LINE_BYTES_MAX:,} bytes or more: write an object in each line"
                raise LimitExceeded("LINE_TOO_LONG", message, field=field, path=path, line=number)
            if line.strip():
                row = _row(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, columns)
                if row.fault and not seen:
                    message = f"{path}, line {number}: {row.fault}"
                    raise InvalidInput("BAD_JSON", message, field=field, path=path, line=number)
                seen = True
                yield row


def _row(number: int, line: bytes, columns: Sequence[str]) -> Row:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return Row(number, fault="it is not UTF-8")
    except (ValueError, RecursionError) as error:
        return Row(number, fault=f"it is not JSON ({error})")
    if not isinstance(value, dict):
        return Row(number, fault="it is no JSON object")
    lacking = [column for column in columns if column not in value]
    if lacking:
        return Row(number, fault=f"it has no {lacking[0]!r}")
    return Row(number, tuple(value[column] for column in columns))
