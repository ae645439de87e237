"""Call labelloop's services from a program or a notebook: ``from labelloop import Client``."""

from labelloop_cli.library.async_client import AsyncClient, AsyncPools
from labelloop_cli.library.async_run import AsyncRun
from labelloop_cli.library.client import Client, Pools, Run
from labelloop_cli.library.requests import Request
from labelloop_cli.library.results import Records, Scores
from labelloop_cli.library.state import RunState

__all__ = [
    "AsyncClient",
    "AsyncPools",
    "AsyncRun",
    "Client",
    "Pools",
    "Records",
    "Request",
    "Run",
    "RunState",
    "Scores",
]
