"""Decide which paths on this machine runs may name.

A path that is refused has not been looked at: whether anything lies there, and of what kind, is nobody's business. A
link within the folder is followed as long as it stays there. What this cannot see are hard links and mounts inside the
folder: who may make them there decides what is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelloop.errors import InvalidInput

from .dataset import DatasetSource
from .file_access import entries_of, is_folder, status_of
from .hidden_files import HiddenFiles

PATHS = ("name", "labels", "evaluation", "evaluation_labels", "graph", "embeddings", "evaluation_embeddings")
SETTING = "LABELLOOP_POOLS_DIR"

_NEVER = tuple(map(Path, ("/proc", "/sys", "/dev")))  # what reading there returns is the system's, not a file's
_NOTHING = HiddenFiles()
_LINKS_MAX = 40  # as Linux has it


@dataclass(frozen=True)
class Places:
    """The folder in which runs may name files.

    Attributes:
        pools_dir: The operator's folder; None if paths are not taken at all.
        hidden: Files there that no run may name.
    """

    pools_dir: Path | None
    hidden: HiddenFiles = _NOTHING

    def located(self, source: DatasetSource) -> DatasetSource:
        """Return ``source`` with every path absolute and free of links, to be opened by descriptors.

        Raises InvalidInput, the same for whatever lies there, for a path outside the folder, one that leads outside,
        one with a part below the folder that begins with a dot, and a hidden file; and for a folder that holds one.
        """
        found = {field: str(self._place(getattr(source, field), field)) for field in PATHS if is_path(source, field)}
        return replace(source, **found)  # type: ignore[arg-type]

    def _place(self, text: str, field: str) -> Path:
        if self.pools_dir is None:
            message = (
                f"{field}: {text!r} is a path, and this oracle reads none: upload it with `labelloop pool push`, or "
                f"ask its operator to name a folder in {SETTING}"
            )
            raise InvalidInput("PATHS_REFUSED", message, field=field, path=text)
        root = self.pools_dir.resolve()
        place = _inside(text, (root, self.pools_dir.absolute()))
        if place is None or self.hidden.matches(place.relative_to(root)):
            message = (
                f"{field}: {text!r} lies outside {self.pools_dir}, where the oracle service reads pools, or is hidden "
                f"there: put it there, upload it with `labelloop pool push`, or ask for another {SETTING}"
            )
            raise InvalidInput("PATH_OUTSIDE", message, field=field, path=text)
        self._check_folder(place, root, field)
        return place

    def _check_folder(self, place: Path, root: Path, field: str) -> None:
        """Check that a folder and the folders in it, as far as pools are read, hold no hidden file."""
        if not self.hidden.patterns or not is_folder(place):
            return
        entries = _listed(place)
        entries += [inner for entry in entries if is_folder(entry) for inner in _listed(entry)]
        if any(self.hidden.matches(entry.relative_to(root)) for entry in entries):
            message = f"{field}: {place} holds files that its operator hides from runs: name a folder without them"
            raise InvalidInput("HOLDS_HIDDEN", message, field=field, path=place)


def is_path(source: DatasetSource, field: str) -> bool:
    """Return whether ``field`` names a file or folder, and not the dataset ``mnist`` or nothing."""
    text = getattr(source, field)
    return bool(text) and not (field == "name" and text == "mnist")


def _inside(text: str, spellings: Sequence[Path]) -> Path | None:
    """Return the path ``text`` without links, below the first of ``spellings`` of one folder; None if it is outside."""
    if "\0" in text:
        return None
    below = _below(Path(text).absolute(), spellings)  # decided by the text alone
    return None if below is None else _followed(spellings, below)


def _below(path: Path, spellings: Sequence[Path]) -> list[str] | None:
    """Return the parts of ``path`` below a folder, one of ``spellings``; None if it is outside."""
    plain = Path(os.path.normpath(path))
    return next((list(plain.relative_to(each).parts) for each in spellings if plain.is_relative_to(each)), None)


def _followed(spellings: Sequence[Path], parts: list[str]) -> Path | None:
    """Return where ``parts`` lead from the folder; None as soon as they leave it."""
    place = root = spellings[0]
    links = 0
    while parts:
        part = parts.pop(0)
        if part.startswith("."):
            return None
        place /= part
        if (target := _target(place)) is None:
            continue
        links += 1
        ahead = _below(place.parent / target, spellings)
        if links > _LINKS_MAX or ahead is None:
            return None
        place, parts = root, [*ahead, *parts]
    return None if any(place.is_relative_to(each) for each in _NEVER) else place


def _target(place: Path) -> Path | None:
    """Return what the link at ``place`` names; None if there is no link."""
    try:
        return place.readlink() if stat.S_ISLNK(status_of(place).st_mode) else None
    except OSError:  # nothing is there, or not for us: reading it says which
        return None


def _listed(folder: Path) -> list[Path]:
    try:
        return entries_of(folder)
    except OSError:  # not for us: reading it says so
        return []
