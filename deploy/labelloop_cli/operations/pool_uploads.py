"""Push pools to the oracle, list what was pushed and remove it, for ``labelloop pool`` and ``labelloop run start``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labelloop.artifacts.upload_manifest import PREFIX
from labelloop.domain.remote_urls import is_remote
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import DatasetSource
from labelloop.oracle.v1 import oracle_pb2 as pb
from rich.filesize import decimal
from rich.table import Table

from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.operations.addresses import is_this_machine
from labelloop_cli.operations.local_files import found_here, here
from labelloop_cli.operations.upload import reference, upload
from labelloop_cli.output.console import console, tell
from labelloop_cli.output.documents import plain, print_json
from labelloop_cli.output.local_time import local_time
from labelloop_cli.run_spec.file import PATHS

if TYPE_CHECKING:
    from labelloop.oracle.v1.oracle_pb2_grpc import OracleServiceAsyncStub

_SHOWN_DIGITS = 12


async def push(path: Path, name: str) -> None:
    """Upload a file or folder, and print what a run names it by.

    Raises, before a service is called, InvalidInput for a URL and NotFound for what is not there.
    """
    if is_remote(str(path).replace(":/", "://", 1)):  # a path has lost one of its slashes
        message = "a URL is not uploaded: name it in `labelloop run start`, and the oracle reads it where it is"
        raise InvalidInput("URL_NOT_UPLOADED", message, field="path")
    here(path)
    async with connect(Endpoints()) as clients:
        pushed, sent = await upload(clients.oracle, path, name)
    console.print(_said(path, pushed, sent), highlight=False, soft_wrap=True)
    console.print(f"start a run on it with `labelloop run start {reference(pushed)}`", highlight=False, soft_wrap=True)


async def list_(*, as_json: bool = False) -> None:
    """Print a table of all uploads, and how much may be uploaded."""
    async with connect(Endpoints()) as clients:
        listed = await clients.oracle.ListUploads(pb.ListUploadsRequest())
    if as_json:
        print_json(plain(listed))
        return
    if listed.uploads:
        table = Table("id", "name", "files", "size", "uploaded")
        for each in listed.uploads:
            at = local_time(each.created_at)
            table.add_row(
                each.id[:_SHOWN_DIGITS], _printable(each.name), f"{each.file_count:,}", decimal(each.bytes), at
            )
        console.print(table)
    used = sum(each.bytes for each in listed.uploads)
    room = f"{decimal(used)} of {decimal(listed.bytes_max)} used" if listed.bytes_max else "the oracle takes none"
    console.print(f"{len(listed.uploads)} uploads; {room}", highlight=False)


async def remove(wanted: str) -> None:
    """Remove an upload, given by its id, the beginning of it, or its name. Runs that have read it keep their pools."""
    async with connect(Endpoints()) as clients:
        listed = await clients.oracle.ListUploads(pb.ListUploadsRequest())
        chosen = chosen_upload(listed.uploads, wanted.removeprefix(PREFIX))
        await clients.oracle.RemoveUpload(pb.RemoveUploadRequest(id=chosen.id))
    console.print(f"upload {chosen.id[:_SHOWN_DIGITS]} ({_printable(chosen.name)}) removed", highlight=False)


def chosen_upload(uploads: Sequence[pb.Upload], wanted: str) -> pb.Upload:
    """Return the upload whose id begins with ``wanted``, or which has that name.

    Raises NotFound if there is none, InvalidInput if there are several.
    """
    found = [each for each in uploads if wanted and (each.name == wanted or each.id.startswith(wanted))]
    if not found:
        message = f"there is no upload {wanted!r}: `labelloop pool list` shows those there are"
        raise NotFound("UNKNOWN_UPLOAD", message, field="upload")
    if len(found) > 1:
        message = f"{len(found)} uploads are called {wanted!r}, or have ids that begin so: give more of the id"
        raise InvalidInput("AMBIGUOUS_UPLOAD", message, field="upload")
    return found[0]


async def upload_paths(
    oracle: OracleServiceAsyncStub,
    address: str,
    source: DatasetSource,
    wanted: bool | None,
    said: Callable[[str], None],
) -> None:
    """Upload what a dataset names on this machine, and name the uploads in its place.

    Args:
        oracle: Where to upload to.
        address: The oracle's address.
        source: The dataset; changed in place.
        wanted: Whether to upload; None if the services are elsewhere and the paths are here.
        said: Called with a sentence about each upload.

    Raises:
        NotFound: If an upload is wanted, but there is no such file.
    """
    if wanted is False or (wanted is None and is_this_machine(address)):
        return
    for field in PATHS:
        text = getattr(source, field)
        if not text or text == "mnist" or text.startswith(PREFIX) or is_remote(text):
            continue
        if wanted is None and not found_here(Path(text)):
            continue
        if wanted is None:
            tell([f"the oracle is at {address}: {text} is uploaded from this machine (--no-upload: it is read there)"])
        pushed, sent = await upload(oracle, Path(text))
        setattr(source, field, f"{reference(pushed)}/{Path(text).resolve().name}")
        said(_said(Path(text), pushed, sent))


def _said(path: Path, pushed: pb.Upload, sent: int) -> str:
    files = f"{pushed.file_count:,} file" + ("" if pushed.file_count == 1 else "s")
    return f"{path} uploaded as {pushed.id[:_SHOWN_DIGITS]}: {files}, {decimal(pushed.bytes)}, {decimal(sent)} sent now"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
