"""Export and import a whole run as a zip archive.

It contains ``events.jsonl``, with one event per line, and the artifacts as ``artifacts/<SHA-256>``.
"""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf import json_format
from labelloop.errors import InvalidInput, NotFound
from labelloop.events.v1.events_pb2 import Event
from labelloop.trainer.v1.trainer_pb2 import ArtifactPiece, ExportRunRequest, ImportRunRequest, RunStatus

from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.output.console import console

_EVENTS = "events.jsonl"
_ARTIFACTS = "artifacts/"
_PIECE_BYTES = 1024 * 1024


async def export_run(run_id: str, output: Path) -> None:
    """Write a run's events and artifacts to ``output``, atomically: the file appears complete or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f"{output.name}.draft")
    try:
        events, artifacts = await _export(run_id, draft)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    console.print(f"run {run_id}, {events} events and {artifacts} artifacts, written to {output}")


async def _export(run_id: str, draft: Path) -> tuple[int, int]:
    lines: list[str] = []
    artifacts = 0
    async with connect(Endpoints()) as clients:
        parts = clients.trainer.ExportRun(ExportRunRequest(run_id=run_id))
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            pieces: list[bytes] = []
            async for part in parts:
                if part.HasField("event"):
                    lines.append(json_format.MessageToJson(part.event, indent=None, preserving_proto_field_name=True))
                    continue
                pieces.append(part.artifact.data)
                if part.artifact.last:
                    archive.writestr(f"{_ARTIFACTS}{part.artifact.sha256}", b"".join(pieces))
                    artifacts, pieces = artifacts + 1, []
            archive.writestr(_EVENTS, "\n".join(lines) + "\n")
    return len(lines), artifacts


async def import_run(path: Path) -> None:
    """Restore a run from a file. Raises NotFound if it does not exist, InvalidInput if it is not an exported run."""
    if not path.exists():
        raise NotFound("NO_FILE", f"there is no file {path}", path=path)
    try:
        with zipfile.ZipFile(path) as archive:
            events = [json_format.Parse(line, Event()) for line in archive.read(_EVENTS).decode().splitlines()]
            async with connect(Endpoints()) as clients:
                run: RunStatus = (await clients.trainer.ImportRun(_parts(events, archive))).run
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, json_format.ParseError) as error:
        message = f"{path} is not what `labelloop export --run` writes: {error}"
        raise InvalidInput("BAD_LEDGER", message, path=path) from error
    console.print(f"run {run.run_id} imported: round {run.round}, {run.labels_paid} labels")


async def _parts(events: list[Event], archive: zipfile.ZipFile) -> AsyncIterator[ImportRunRequest]:
    for event in events:
        yield ImportRunRequest(event=event)
    for name in archive.namelist():
        if name.startswith(_ARTIFACTS):
            data = archive.read(name)
            for start in range(0, max(1, len(data)), _PIECE_BYTES):
                end = start + _PIECE_BYTES
                piece = ArtifactPiece(sha256=name.removeprefix(_ARTIFACTS), data=data[start:end], last=end >= len(data))
                yield ImportRunRequest(artifact=piece)
