"""Refuse names that do not look like what they are: of annotators, classes, samples, tools. Pure functions.

Control characters act on terminals and logs, characters that turn the direction of writing and those without width make
one name look like another, and lone surrogates cannot be stored. Each service checks names here when they come in, by
whatever way; names in logs of earlier releases stay readable.
"""

from __future__ import annotations

from unicodedata import category, normalize

from labelloop.domain.limits import TEXT_CHARACTERS_MAX
from labelloop.errors import InvalidInput

_REFUSED = {"Cc": "a control character", "Cf": "an invisible character", "Cs": "half a character"}
_REFUSED |= {"Zl": "a line separator", "Zp": "a paragraph separator"}
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F}
_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}  # letters, marks and symbols without a shape
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need them within a word
_LINES = "\n\r\t"


def name_fault(text: str, most: int = TEXT_CHARACTERS_MAX) -> str:
    """Describe what a name may not hold, or that it has more than ``most`` characters; empty if it is sound."""
    if len(text) > most:
        return f"it has {len(text)} characters: shorten it to {most}"
    return _character_fault(text, "")


def prose_fault(text: str, most: int) -> str:
    """Describe the fault of a text of several lines, such as a comment; empty if it is sound."""
    if len(text) > most:
        return f"it has {len(text)} characters: shorten it to {most}"
    return _character_fault(text, _LINES)


def normalised(text: str) -> str:
    """Return a name in NFC, without spaces around it."""
    return normalize("NFC", text).strip()


def sound_name(text: str, field: str) -> str:
    """Return an annotator's name in NFC, without spaces around it.

    Raises:
        InvalidInput: It is empty, too long, or holds characters that names may not hold.
    """
    name = normalised(text)
    fault = name_fault(name) if name else "it is empty"
    if fault:
        message = f"say who labels, by a name of 1 to {TEXT_CHARACTERS_MAX} characters that can all be seen: {fault}"
        raise InvalidInput("BAD_NAME", message, field=field)
    return name


def _character_fault(text: str, allowed: str) -> str:
    if text.isascii() and text.isprintable():
        return ""
    for place, character in enumerate(text):
        if character in allowed or (character in _JOINERS and _joins(text, place)):
            continue
        if why := _why_refused(character):
            return f"character {place + 1}, U+{ord(character):04X}, is {why}: leave it out"
    return ""


def _why_refused(character: str) -> str:
    if ord(character) in _TURNING:
        return "one that turns the direction of writing"
    return "an invisible character" if ord(character) in _BLANK else _REFUSED.get(category(character), "")


def _joins(text: str, place: int) -> bool:
    """Return whether the characters around ``place`` are of a script, or of signs, that joiners have an effect on."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return len(around) == 2 and all(not each.isascii() and category(each)[0] in "LMS" for each in around)
