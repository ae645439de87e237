"""Name files in the folder of pools that no run may read, such as labels that are kept to judge people. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

from labelloop.errors import InvalidInput


@dataclass(frozen=True)
class HiddenFiles:
    """Patterns of paths below the folder of pools, as of a shell: ``*`` also stands for slashes.

    Upper and lower case count as equal, because file systems differ in that.
    """

    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> HiddenFiles:
        """Return the patterns in ``text``, separated by commas. Raises InvalidInput for one that can match nothing."""
        patterns = tuple(part.strip().casefold().rstrip("/") for part in text.split(",") if part.strip())
        for pattern in patterns:
            if pattern.startswith("/") or ".." in pattern.split("/") or not pattern:
                message = f"{pattern!r} matches no path below the folder of pools: write truth/*, or *.truth.csv"
                raise InvalidInput("HIDDEN_PATTERN", message, pattern=pattern)
        return cls(patterns)

    def matches(self, path: PurePath) -> bool:
        """Return whether ``path``, relative to the folder of pools, or a folder above it is hidden."""
        places = [path, *path.parents][:-1]  # without the folder of pools itself
        return any(fnmatchcase(each.as_posix().casefold(), pattern) for each in places for pattern in self.patterns)
