"""Name samples after their files, and list names in messages. Pure functions."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

from labelloop.errors import InvalidInput

_SHOWN_CHARACTERS = 80
_DESKTOP_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"})


def is_of_desktop(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a desktop leaves beside files."""
    return name.startswith(".") or name.casefold() in _DESKTOP_FILES


def is_text(name: str) -> bool:
    """Return whether ``name`` is valid Unicode; Python puts surrogates into names of files that are not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def sample_name(path: PurePath, folder: PurePath) -> str:
    """Return the path below ``folder``, with "/" between its parts, in NFC: systems encode accents in either way."""
    return unicodedata.normalize("NFC", path.relative_to(folder).as_posix())


def check_unique(names: Sequence[str], paths: Sequence[PurePath], field: str) -> None:
    """Raise InvalidInput that names two of ``paths`` whose ``names``, in NFC, are equal."""
    first: dict[str, PurePath] = {}
    for name, path in zip(names, paths, strict=True):
        other = first.setdefault(name, path)
        if other is not path:
            raise InvalidInput(
                "NAMES_EQUAL",
                f"{shown(str(path))} and another file have the name {shown(name)}, only with accents encoded "
                "differently: rename one of them",
                field=field,
                path=shown(str(path)),
                name=shown(name),
            )


def shown(name: str) -> str:
    """Return ``name`` for a message: with escapes for what cannot be printed, and cut in the middle if long."""
    text = "".join(_escaped(character) for character in name)
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[: half - 2]}...{text[-half + 1 :]}"


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()


def listed(items: Sequence[str], most: int) -> str:
    """Join the first ``most`` of the ``items`` by commas and count the rest."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def counted(count: int, noun: str) -> str:
    """Return ``1 file`` or ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
