"""Let a file of labels be nothing else in the same run."""

from __future__ import annotations

from pathlib import Path

from labelloop.errors import InvalidInput

from .dataset import DatasetSource
from .file_access import status_of
from .places import PATHS, is_path

_LABELS = ("labels", "evaluation_labels")


def check_roles(source: DatasetSource) -> None:
    """Raise InvalidInput if a file of labels is named as samples, vectors or graph too, by whatever path.

    Models and people would see the labels that they are to find. Files are compared by their identity, so that hard
    links and other spellings of a path count as the same file. A file may hold the labels of both pool and evaluation
    set.
    """
    files = {field: _identity(getattr(source, field)) for field in PATHS if is_path(source, field)}
    for field, file in files.items():
        twin = next((each for each in _LABELS if file is not None and files.get(each) == file), None)
        if twin and field not in _LABELS:
            raise InvalidInput(
                "FILE_IN_TWO_ROLES",
                f"{field} names the same file as {twin}: labels would be seen as data; name another file, or for a "
                f"table its label column, and leave {twin} out",
                field=field,
                other=twin,
                path=getattr(source, field),
            )


def _identity(text: str) -> tuple[int, int] | None:
    """Return device and number of the file; None if it cannot be reached, as its reader says."""
    try:
        found = status_of(Path(text))
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
