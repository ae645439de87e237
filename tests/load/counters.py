"""What a server itself says of the calls that it answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from labelloop_cli.stack import Service, Stack

from tests.bench.cores import client_and_server_core, starting_on


@asynccontextmanager
async def counted_by_the_server(stack: Stack) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """The address of one more scorer, and what calls of Score it answered with which status, known at the end."""
    counts: dict[str, int] = {}
    with TemporaryDirectory() as folder:
        told = {"LABELLOOP_NATS_URL": stack.nats_url, "LABELLOOP_LOG_FORMAT": "json", "LABELLOOP_CACHE_DIR": folder}
        scorer = Service("scorer", Path(folder), told)
        try:
            with starting_on(client_and_server_core()[1]):
                await scorer.start()
            yield scorer.address, counts
        finally:
            await scorer.stop()
        for line in scorer.log_file.read_text().splitlines():
            said = json.loads(line)
            if said.get("event") == "calls served":
                counts.update(said["calls"].get("Score", {}))
