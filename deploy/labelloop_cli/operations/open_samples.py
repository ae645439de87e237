"""Write the samples that wait for a label to files, for ``labelloop label open``."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path

from labelloop.csv_files.class_rows import read_class_rows
from labelloop.csv_files.formulas import guarded
from labelloop.errors import InvalidInput
from labelloop.oracle.v1.oracle_pb2 import GetBacklogRequest, LabelRequest, ListRequestsRequest
from labelloop.trainer.v1.trainer_pb2 import GetRunRequest

from labelloop_cli.clients import Clients, Endpoints, connect
from labelloop_cli.operations.backlog import standing
from labelloop_cli.output.console import console, going_on
from labelloop_cli.output.file_names import FileNames

_TEXTS = {"text/plain", "application/json"}
_COLUMNS = ("id", "name", "class", "file", "text")


async def open_(run_id: str, output: Path, images: Path | None, *, replace: bool = False) -> None:
    """Write the samples that wait for a label to a CSV to fill in, and pictures to the folder ``images`` if given.

    Texts and rows of tables are in the CSV itself. Text that a spreadsheet would take for a formula has an apostrophe
    in front, which `labelloop label submit` understands.

    Raises:
        InvalidInput: If ``images`` is given, but the samples are no pictures, or other files of their names are there;
            or, without ``replace``, if ``output`` exists and holds classes, or is no such CSV.
    """
    if not replace:
        _check_not_filled_in(output)
    async with connect(Endpoints()) as clients:
        with going_on(f"reading what {run_id} asks for"):
            rows = [row async for row in _rows(clients, run_id, images)]
        why_none = [] if rows else await _why_none(clients, run_id)
        has_guidelines = bool(rows) and bool(await _guidelines(clients, run_id))
    if not replace:
        _check_not_filled_in(output)  # again: reading takes a while
    write_table(rows, output)
    if not rows:
        told = f"no sample waits for a label yet; {'; '.join(why_none)}" if why_none else "no sample waits for a label"
        console.print(told, highlight=False, soft_wrap=True)
        return
    if has_guidelines:
        console.print(f"read first how to label them: `labelloop label guidelines {run_id}`")
    console.print(
        f"{len(rows)} samples wait for a label; fill in {output}, then `labelloop label submit {run_id} {output}`"
    )


async def _why_none(clients: Clients, run_id: str) -> list[str]:
    """Return what is done, or what is in the way, before a run asks for samples; empty if it has ended."""
    response = await clients.oracle.GetBacklog(GetBacklogRequest(run_id=run_id))
    return [text for run in response.runs for text in standing(run)]


async def show_guidelines(run_id: str) -> None:
    """Print the guidelines of a run as they were written."""
    async with connect(Endpoints()) as clients:
        text = await _guidelines(clients, run_id)
    console.print(text or f"run {run_id} has no guidelines", markup=False, highlight=False, soft_wrap=True)


async def _guidelines(clients: Clients, run_id: str) -> str:
    found: str = (await clients.trainer.GetRun(GetRunRequest(run_id=run_id))).run.spec.queue.guidelines
    return found


async def _rows(clients: Clients, run_id: str, images: Path | None) -> AsyncIterator[dict[str, str]]:
    files = FileNames()
    async for request in clients.oracle.ListRequests(ListRequestsRequest(run_id=run_id)):
        row = table_row(request)
        if images:
            row["file"] = files.of(request.sample_name or str(request.sample_id), request.media_type)
            _write_picture(request, images, row["file"])
            row["file"] = guarded(row["file"])
        yield row


def table_row(request: LabelRequest) -> dict[str, str]:
    """Return the cells of a sample, which spreadsheets do not take for formulas."""
    row = {"id": str(request.sample_id), "name": guarded(request.sample_name)}
    if request.media_type.partition(";")[0] in _TEXTS:
        row["text"] = guarded(request.content.decode(errors="replace"))
    return row


def _write_picture(request: LabelRequest, folder: Path, name: str) -> None:
    if not request.media_type.startswith("image/"):
        message = f"the samples of run {request.run_id!r} are {request.media_type}, not pictures: leave --images out"
        raise InvalidInput("NO_IMAGES", message, field="images")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if path.exists() and path.read_bytes() != request.content:
        message = f"{path} is there already and is another picture: name another folder with --images"
        raise InvalidInput("FILE_EXISTS", message, field="images", path=path)
    path.write_bytes(request.content)


def _check_not_filled_in(output: Path) -> None:
    """Raise InvalidInput if a file is there in which classes are filled in, or that is no CSV of samples."""
    if not output.exists() or (output.is_file() and not output.stat().st_size):
        return
    filled, _ = read_class_rows(output)
    rows = [row.row.number for row in filled]
    if rows:
        message = (
            f"{output} is not written over: classes are filled in, {len(rows)} in all, the first in row {rows[0]}; "
            "submit it and move it away, name another file with --output, or write over it with --replace"
        )
        raise InvalidInput("FILLED_IN", message, field="output", path=output)


def write_table(rows: list[dict[str, str]], output: Path) -> None:
    """Write a CSV without columns that are empty in all rows, except those that are to be filled in.

    A byte order mark tells spreadsheets that text is UTF-8; ASCII needs none.
    """
    columns = [name for name in _COLUMNS if name in ("id", "class") or any(row.get(name) for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    output.parent.mkdir(parents=True, exist_ok=True)
    encoding = "utf-8" if text.getvalue().isascii() else "utf-8-sig"
    output.write_text(text.getvalue(), encoding=encoding, newline="")
