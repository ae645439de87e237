"""List and remove parts of artifacts, for ``labelloop artifacts``."""

from __future__ import annotations

from labelloop.trainer.v1.trainer_pb2 import LeftoverParts, SweepArtifactsRequest

from labelloop_cli.clients import Endpoints, connect
from labelloop_cli.output.console import console
from labelloop_cli.output.local_time import local_time


async def sweep_artifacts(older_than_s: int, *, remove: bool) -> None:
    """Print what broken-off uploads left, a line each, and how to remove it or what was removed."""
    async with connect(Endpoints()) as clients:
        request = SweepArtifactsRequest(remove=remove, older_than_s=older_than_s)
        found = (await clients.trainer.SweepArtifacts(request)).leftovers
    for leftover in found:
        console.print(_line(leftover), highlight=False, soft_wrap=True)
    if not found:
        console.print("nothing was left behind by uploads")
    elif not remove:
        console.print("nothing was removed; to remove all that no run names, add --remove")


def _line(leftover: LeftoverParts) -> str:
    stored = local_time(leftover.newest_at)
    became = "removed" if leftover.removed else leftover.kept and f"kept: {leftover.kept}"
    return f"{leftover.name}: {leftover.parts} parts, the newest of {stored}" + (f"; {became}" if became else "")
