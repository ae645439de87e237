"""Find the class that a text means: by its name, or by its index where that cannot be mistaken for a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from unicodedata import normalize

from labelloop.errors import InvalidInput

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}([.,][0-9]{0,18})?")
_SHOWN_CHARACTERS, _SHOWN_CLASSES = 60, 10
_COMPARED = 1_000  # names that are searched for a near match: a search of all could take seconds


def comparable(text: str) -> str:
    """Return ``text`` as names are compared: in NFC, without spaces around it."""
    return normalize("NFC", text).strip()


def class_of(text: str, classes: Sequence[str]) -> int:
    """Return the index of the class that ``text`` means.

    A class of that name comes first, then one whose name is an equal number, because spreadsheets write ``01`` as ``1``
    and ``1`` as ``1.0``. A number is an index only if no class is named by a number: otherwise a person who counts from
    1 would be understood as if they counted from 0.

    Raises:
        InvalidInput: If no class is meant, naming the most similar one, or if several are.
    """
    wanted = comparable(text)
    named = class_named(wanted, classes)
    if named is not None:
        return named
    index = _as_index(wanted, classes)
    if index is not None:
        return index
    raise _unknown(wanted, classes)


def class_named(text: str, classes: Sequence[str]) -> int | None:
    """Return the index of the class named ``text``, or named by a number equal to it; None if there is none.

    Raises InvalidInput if there are several.
    """
    wanted = comparable(text)
    found = [index for index, name in enumerate(classes) if comparable(name) == wanted]
    number = as_number(wanted)
    if not found and number is not None:
        found = [index for index, name in enumerate(classes) if as_number(comparable(name)) == number]
    if len(found) > 1:
        names = " or ".join(repr(shortened(classes[index])) for index in found[:2])
        message = f"{shortened(wanted)!r} may mean the class {names}: give the run classes whose names differ"
        raise InvalidInput("AMBIGUOUS_CLASS", message, field="class", class_name=shortened(wanted))
    return found[0] if found else None


def as_number(text: str) -> Decimal | None:
    """Return the number that ``text`` is, with a decimal point or comma; None if it is none."""
    return Decimal(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def same_name(one: str, other: str) -> bool:
    """Return whether two names are one: equal in NFC without spaces around them, or equal as numbers.

    Spreadsheets write the name ``007`` as ``7``.
    """
    left, right = comparable(one), comparable(other)
    return left == right or (as_number(left) is not None and as_number(left) == as_number(right))


def near_match(wanted: str, names: Iterable[str]) -> str:
    """Return the question whether the most similar of ``names`` was meant; empty if none is similar."""
    folded = {comparable(name).casefold(): name for name, _ in zip(names, range(_COMPARED), strict=False)}
    found = get_close_matches(comparable(wanted)[:_SHOWN_CHARACTERS].casefold(), folded, n=1)
    return f"did you mean {shortened(folded[found[0]])!r}?" if found else ""


def shortened(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """Return ``text`` with its middle left out if it has more than ``most`` characters."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[-end:]}"


def printable(text: str) -> str:
    """Return ``text`` with escapes for characters that a terminal would act upon or not show."""
    escaped = (character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return "".join(escaped)


def _as_index(wanted: str, classes: Sequence[str]) -> int | None:
    number = as_number(wanted)
    if number is None or any(as_number(comparable(name)) is not None for name in classes):
        return None
    return int(number) if number == int(number) and 0 <= number < len(classes) else None


def _unknown(wanted: str, classes: Sequence[str]) -> InvalidInput:
    listed = ", ".join(repr(shortened(name)) for name in classes[:_SHOWN_CLASSES])
    more = f" and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
    question = near_match(wanted, classes)
    told = f"{shortened(wanted)!r} is no class of the run{'; ' + question if question else ''}"
    message = f"{told} (classes: {listed}{more})"
    return InvalidInput("UNKNOWN_CLASS", message, field="class", class_name=shortened(wanted))
