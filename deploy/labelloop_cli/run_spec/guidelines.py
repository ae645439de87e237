"""Read the guidelines by which people label, for ``--guidelines``."""

from __future__ import annotations

from pathlib import Path

from labelloop.domain.guidelines import guidelines_fault
from labelloop.domain.limits import GUIDELINES_BYTES_MAX
from labelloop.errors import InvalidInput, NotFound


def read_guidelines(path: Path) -> str:
    """Return the text of a file of Markdown or plain text, with line breaks of one kind.

    Raises:
        NotFound: If there is no file.
        InvalidInput: If it is empty, too large, or no text in UTF-8.
    """
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    try:
        with path.open("rb") as file:
            data = file.read(GUIDELINES_BYTES_MAX + 4)  # a byte order mark does not count
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").strip()
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError) and len(data) > GUIDELINES_BYTES_MAX:
            raise _bad(path, f"has more than {GUIDELINES_BYTES_MAX:,} bytes: shorten it") from error
        raise _bad(path, f"cannot be read as text in UTF-8: {error}") from error
    if not text:
        raise _bad(path, "is empty: write what people should know, or leave --guidelines out")
    if fault := guidelines_fault(text):
        raise _bad(path, f"cannot be used: {fault}")
    return text


def _bad(path: Path, message: str) -> InvalidInput:
    return InvalidInput("BAD_GUIDELINES", f"{path} {message}", field="queue.guidelines", path=path)
