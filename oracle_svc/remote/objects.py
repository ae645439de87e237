"""Describe the files that a URL stands for. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from labelloop.artifacts.upload_manifest import folders_of, name_fault
from labelloop.domain.remote_urls import RemoteUrl
from labelloop.errors import InvalidInput, LimitExceeded, NotFound

OBJECTS_MAX = 200_000


class RemoteObject(NamedTuple):
    """A file on an object store or web server.

    Attributes:
        name: Its path below the parent of what the URL names: its own name, or ``folder/a/b``.
        size: Its bytes; -1 if the server does not say.
        stamp: What the server says of its version, other for other content; empty if it says nothing.
    """

    name: str
    size: int
    stamp: str


class Source(Protocol):
    """Where files come from. All methods block on the network, and raise what their libraries do."""

    def listed(self, url: RemoteUrl) -> list[RemoteObject]:
        """Return the file at ``url``, or the files below it, by name. Raises FileNotFoundError if there are none."""
        ...

    def blocks(self, url: RemoteUrl, each: RemoteObject) -> Iterator[bytes]:
        """Yield the bytes of one of the files below ``url``, block by block."""
        ...


def checked(url: RemoteUrl, objects: Sequence[RemoteObject]) -> None:
    """Raise NotFound for no files, LimitExceeded for too many, InvalidInput for names that cannot be those of files."""
    if not objects:
        raise NotFound("NO_SUCH_FILE", f"{str(url)!r} holds no files: correct the URL", url=url)
    if len(objects) > OBJECTS_MAX:
        message = f"{str(url)!r} holds more than {OBJECTS_MAX:,} files: pack them into arrays or tables"
        raise LimitExceeded("TOO_MANY_FILES", message, most=OBJECTS_MAX, url=url)
    folders = {folder for each in objects for folder in folders_of(each.name)}
    for each in objects:
        fault = name_fault(each.name) or ("is that of a folder too" if each.name in folders else "")
        if fault:
            message = f"{str(url)!r} holds a file {each.name!r} that cannot be copied: its name {fault}"
            raise InvalidInput("BAD_FILE_NAME", message, url=url)


def key_of(url: RemoteUrl, objects: Sequence[RemoteObject]) -> str:
    """Return a name for the copy of these files in these versions; empty if a server tells no versions."""
    if not all(each.stamp for each in objects):
        return ""
    return content_key(url, json.dumps(objects))


def content_key(url: RemoteUrl, what: str) -> str:
    """Return a name for a copy of ``url`` that is identified by ``what``. It is none that an upload can have."""
    return f"remote-{sha256(json.dumps([str(url), what]).encode()).hexdigest()}"
