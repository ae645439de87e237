"""Read the classes of samples from a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

from labelloop.errors import InvalidInput, NotFound


def read_classes(path: Path) -> list[tuple[int, int]]:
    """Read (sample id, class) pairs from a CSV with the columns id and class, leaving out rows without a class.

    Raises NotFound if there is no file, and InvalidInput if it is not CSV in UTF-8, a column is missing or a value is
    not a whole number, 0 or more.
    """
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    try:
        return _rows(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"{path} cannot be read as CSV in UTF-8: {error}"
        raise InvalidInput("BAD_CSV", message, path=path) from error


def _rows(path: Path) -> list[tuple[int, int]]:
    found = []
    with path.open(newline="", encoding="utf-8-sig") as file:  # Excel writes a byte order mark
        reader = csv.DictReader(file)
        if not {"id", "class"} <= set(reader.fieldnames or []):
            raise InvalidInput("BAD_CSV", f"{path} lacks the columns id and class", path=path)
        for row in reader:
            if not row["class"]:
                continue
            if not ((row["id"] or "").isdecimal() and row["class"].isdecimal()):
                message = f"{path}, line {reader.line_num}: id and class must be whole numbers, not {row}"
                raise InvalidInput("BAD_CSV", message, path=path, line=reader.line_num)
            found.append((int(row["id"]), int(row["class"])))
    return found
