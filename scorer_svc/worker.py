"""Run one of several scorers on a port: ``python -m scorer_svc.worker``, started by ``python -m scorer_svc``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from labelloop.runtime.process import run_service
from labelloop.settings import read_settings

from scorer_svc.bootstrap import serve
from scorer_svc.config import ScorerSettings


async def _work(settings: ScorerSettings) -> None:
    """Serve until told to stop, or until standard input closes, whose other end the supervisor holds."""
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _leave)
    await serve(settings, shared_port=True)


def _leave() -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    run_service("scorer", read_settings(ScorerSettings), _work)
