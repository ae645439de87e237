"""Define the manifest of an upload: its files, and the parts that they consist of. No I/O.

A manifest is JSON Lines, a line for each file, sorted by name; its SHA-256 identifies the upload. Files are stored in
parts of ``PART_BYTES``, each under its digest, and so is the manifest itself. A manifest comes from a client: all that
it says is checked when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelloop.domain import names as seen
from labelloop.errors import InvalidInput, LimitExceeded

PART_BYTES = 512 * 1024  # fits into a message of the broker
FILES_MAX = 1_000_000
MANIFEST_BYTES_MAX = 512 * PART_BYTES
PREFIX = "upload:"
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_FILE_BYTES_MAX = 100 * 2**30
_NAME_BYTES_MAX, _PART_OF_NAME_BYTES_MAX, _DEPTH_MAX = 1_024, 255, 16


class UploadedFile(BaseModel):
    """A file of an upload.

    Attributes:
        name: Its path below the upload, with "/" between the parts.
        size: Its bytes.
        sha256: Digest of its content.
        parts: Digests of its parts, in order; empty for a file of one part, whose digest is the file's, or of none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    size: int = Field(ge=0, le=_FILE_BYTES_MAX)
    sha256: Digest
    parts: tuple[Digest, ...] = Field((), max_length=_FILE_BYTES_MAX // PART_BYTES)

    @property
    def part_digests(self) -> tuple[str, ...]:
        """The digests of all its parts; none for an empty file."""
        return self.parts or ((self.sha256,) if self.size else ())


def write_manifest(files: Iterable[UploadedFile]) -> bytes:
    """Return the manifest of ``files``. Raises InvalidInput and LimitExceeded as :func:`read_manifest` does."""
    ordered = sorted(files, key=lambda file: file.name)
    _check_count(len(ordered))
    check_names([file.name for file in ordered])
    data = b"".join(file.model_dump_json(exclude_defaults=True).encode() + b"\n" for file in ordered)
    _check_size(len(data))
    return data


def read_manifest(data: bytes) -> list[UploadedFile]:
    """Parse a manifest.

    Raises:
        InvalidInput: If it is malformed, has a file without name, or a name that is not a plain path below the upload.
        LimitExceeded: If it has too many files or bytes.
    """
    _check_size(len(data))
    _check_count(data.count(b"\n"))
    files = [_file(number, line) for number, line in enumerate(_lines(data), 1)]
    if not files:
        raise _bad("it has no files")
    if any(before.name >= after.name for before, after in pairwise(files)):
        raise _bad("its files are not sorted by name, each once")
    check_names([file.name for file in files])
    return files


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidInput unless all ``names`` are plain paths, and none is also the folder of another."""
    for name in names:
        if fault := name_fault(name):
            raise InvalidInput(
                "BAD_FILE_NAME", f"the file {name!r} cannot be uploaded: its name {fault}", field="files"
            )
    folders = {folder for name in names for folder in folders_of(name)}
    for name in names:
        if name in folders:
            raise InvalidInput("BAD_FILE_NAME", f"{name!r} is both a file and a folder of the upload", field="files")


def folders_of(name: str) -> Iterator[str]:
    """Yield the folders that the file ``name`` lies in, outermost first."""
    return accumulate(name.split("/")[:-1], "{}/{}".format)


def name_fault(name: str) -> str:
    """Return what is wrong with a file's name, to follow "its name"; empty if it is a plain relative path."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode: rename it"
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        return "is no plain path below the upload"
    if len(encoded) > _NAME_BYTES_MAX or any(len(part.encode()) > _PART_OF_NAME_BYTES_MAX for part in parts):
        return f"is too long: at most {_NAME_BYTES_MAX} bytes, and {_PART_OF_NAME_BYTES_MAX} between slashes"
    if fault := seen.name_fault(name, _NAME_BYTES_MAX):
        return f"is refused: {fault}"
    return f"has more than {_DEPTH_MAX} levels of folders" if len(parts) > _DEPTH_MAX else ""


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        if end < 0:
            raise _bad("its last line has no end")
        yield data[start:end]
        start = end + 1


def _file(number: int, line: bytes) -> UploadedFile:
    try:
        file = UploadedFile.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise _bad(f"line {number}: {'.'.join(map(str, fault['loc']))} {fault['msg']}") from error
    if len(file.part_digests) != -(-file.size // PART_BYTES):
        raise _bad(f"line {number}: {file.size} bytes are not {len(file.part_digests)} parts of {PART_BYTES}")
    return file


def _check_count(count: int) -> None:
    if count > FILES_MAX:
        message = f"an upload has at most {FILES_MAX:,} files, not {count:,}: pack them into arrays or tables"
        raise LimitExceeded("TOO_MANY_FILES", message, field="files", most=FILES_MAX)


def _check_size(size: int) -> None:
    if size > MANIFEST_BYTES_MAX:
        message = f"the list of the files takes {size:,} bytes, and at most {MANIFEST_BYTES_MAX:,} fit: shorten names"
        raise LimitExceeded("MANIFEST_TOO_LARGE", message, field="files", most=MANIFEST_BYTES_MAX)


def _bad(message: str) -> InvalidInput:
    return InvalidInput("BAD_MANIFEST", f"this is no manifest of an upload: {message}", field="id")
