"""Decode text files of unknown encoding, line by line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from labelloop.errors import InvalidInput, LimitExceeded, NotFound

BYTES_MAX = 1024**3
LINE_CHARACTERS_MAX = 1024**2
_PIECE_BYTES = 1024**2
_MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, .xls
WESTERN = "cp1252"

Opener = Callable[[Path], BinaryIO]
"""Opens a file for reading bytes."""


def open_plainly(path: Path) -> BinaryIO:
    """Open a file, following links."""
    return path.open("rb")


def encoding_of(path: Path, opener: Opener = open_plainly) -> str:
    """Return the encoding of a text file: by its byte order mark, else UTF-8 if it is that, else Windows-1252.

    Raises:
        NotFound: If there is no file.
        InvalidInput: If it is no regular file, cannot be read, or holds no text.
        LimitExceeded: If it has more than 1 GiB.
    """
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    if not path.is_file():
        raise unreadable(path, "it is no file")
    if (size := path.stat().st_size) > BYTES_MAX:
        message = f"{path} has {size:,} bytes: a CSV file may have {BYTES_MAX:,}; split it"
        raise LimitExceeded("CSV_TOO_LARGE", message, path=path, bytes=size)
    try:
        with opener(path) as file:
            head = file.read(_PIECE_BYTES)
        return _marked(path, head) or ("utf-8" if _is_utf8(path, opener) else WESTERN)
    except OSError as error:
        raise unreadable(path, str(error)) from error


def _marked(path: Path, head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if head.startswith(_WORKBOOKS):
        raise unreadable(path, "it is a workbook: save its sheet as CSV")
    if b"\0" in head:
        raise unreadable(path, "it holds zero bytes, so it is no text: save it as CSV in UTF-8")
    return ""


def _is_utf8(path: Path, opener: Opener) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opener(path) as file:
        try:
            while piece := file.read(_PIECE_BYTES):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def lines_of(path: Path, encoding: str, opener: Opener = open_plainly) -> Iterator[str]:
    """Yield the lines of a file with their ends.

    Raises InvalidInput for a byte that is not of ``encoding``, or for a line of more than a million characters.
    """
    try:
        with TextIOWrapper(opener(path), encoding, newline="") as file:
            while line := file.readline(LINE_CHARACTERS_MAX + 1):
                if len(line) > LINE_CHARACTERS_MAX:
                    raise unreadable(path, f"it has a line of more than {LINE_CHARACTERS_MAX:,} characters")
                yield line
    except UnicodeDecodeError as error:
        tried = "neither UTF-8 nor Windows-1252" if encoding == WESTERN else f"not {encoding}"
        raise unreadable(path, f"its text is {tried}: save it as CSV in UTF-8") from error
    except OSError as error:
        raise unreadable(path, str(error)) from error


def unreadable(path: Path, problem: str) -> InvalidInput:
    """Return the error for a file that is no CSV."""
    return InvalidInput("BAD_CSV", f"{path} cannot be read as CSV: {problem}", path=path)
