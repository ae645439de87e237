"""Export and import a whole run as a zip archive; see :mod:`labelloop_cli.ledger`."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from google.protobuf import json_format
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ExportRunRequest, ExportRunResponse

from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.ledger.members import ARTIFACTS, EVENTS
from labelloop_cli.ledger.reading import opened
from labelloop_cli.ledger.sending import send
from labelloop_cli.output.console import console, tell
from labelloop_cli.output.replacement import ARCHIVE, check_replaceable


async def export_run(run_id: str, output: Path) -> None:
    """Write a run's events and artifacts to ``output``, atomically: the file appears complete or not at all."""
    check_replaceable(output, ARCHIVE)
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f"{output.name}.draft")
    try:
        async with connect(Endpoints()) as clients:
            parts = clients.trainer.ExportRun(ExportRunRequest(run_id=run_id))
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                events, artifacts = await _write(aiter(parts), archive)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    console.print(f"run {run_id}, {events} events and {artifacts} artifacts, written to {output}")


async def _write(parts: AsyncIterator[ExportRunResponse], archive: zipfile.ZipFile) -> tuple[int, int]:
    """Write parts as they come, events first; return how many events and artifacts there are."""
    events = artifacts = 0
    part: ExportRunResponse | None = None
    with archive.open(EVENTS, "w", force_zip64=True) as file:
        async for part in parts:
            if not part.HasField("event"):
                break
            file.write(_line(part.event))
            events += 1
    while part and part.HasField("artifact"):
        with archive.open(f"{ARTIFACTS}{part.artifact.sha256}", "w", force_zip64=True) as file:
            await _write_artifact(part.artifact, parts, file)
        artifacts, part = artifacts + 1, await anext(parts, None)
    return events, artifacts


async def _write_artifact(piece: ArtifactPiece, parts: AsyncIterator[ExportRunResponse], file: IO[bytes]) -> None:
    file.write(piece.data)
    while not piece.last:
        piece = (await anext(parts)).artifact
        file.write(piece.data)


def _line(event: Event) -> bytes:
    return json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True).encode() + b"\n"


async def import_run(path: Path, run_id: str = "") -> None:
    """Restore a run from a file, under the id ``run_id`` if that is not empty.

    Raises:
        NotFound: If the file does not exist.
        InvalidInput: If it is not an exported run.
        LimitExceeded: If it is larger than the trainer takes, or than any export.
    """
    endpoints = Endpoints()
    with opened(path) as ledger:
        async with connect(endpoints) as clients:
            run = await send(clients, ledger, run_id, endpoints.retry_s, lambda note: tell([note]))
    console.print(f"run {run.run_id} imported: round {run.round}, {run.labels_paid} labels")
