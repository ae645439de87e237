"""Read the comments above the declarations of a .proto file: descriptors in Python have none. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

_COMMENT = re.compile(r"\s*// ?(.*)")
_BLOCK = re.compile(r"\s*(?:message|enum|oneof|service) (\w+) \{(\})?\s*")
_FIELD = re.compile(r"\s*(?:repeated |optional )?(?:map<[^>]*>|[\w.]+) (\w+) = \d+.*;\s*")
_VALUE = re.compile(r"\s*(\w+) = \d+.*;\s*")
_OPENED = re.compile(r"[^{]*\{\s*")
_CLOSED = re.compile(r"\s*\}\s*")
_PACKAGE = re.compile(r"\s*package ([\w.]+);\s*")


def comments_of(proto: str) -> Mapping[str, str]:
    """Return the comment above each message, enum, field, value and oneof of a .proto file, by full name.

    The protos have one declaration a line, with its comment above it. A field in a oneof belongs to the message, as its
    full name does in a descriptor, and so does the oneof; the values of an enum are named below the enum.
    """
    found: dict[str, str] = {}
    package, blocks, above = "", list[str](), list[str]()
    for line in proto.splitlines():
        if said := _COMMENT.fullmatch(line):
            above.append(said[1].strip())
            continue
        if named := _PACKAGE.fullmatch(line):
            package = named[1]
        elif block := _BLOCK.fullmatch(line):
            _note(found, [package, *blocks, block[1]], above)
            if not block[2]:
                blocks.append("" if line.split()[0] == "oneof" else block[1])
        elif field := _FIELD.fullmatch(line) or _VALUE.fullmatch(line):
            _note(found, [package, *blocks, field[1]], above)
        elif _CLOSED.fullmatch(line):
            blocks.pop()
        elif _OPENED.fullmatch(line):  # the options of an rpc
            blocks.append("")
        above = []
    return found


def _note(found: dict[str, str], path: list[str], above: list[str]) -> None:
    if above:
        found[".".join(part for part in path if part)] = " ".join(above)
