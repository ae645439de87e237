"""The tools for tests of faults: each context starts and stops one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from labelloop_cli.local.stack import Stack

from tests.queues.all_tools import all_tools
from tests.queues.amqp_tool import amqp_tool, rabbitmq_binary
from tests.queues.label_studio_tool import WANTED
from tests.queues.label_studio_tool import label_studio as a_label_studio
from tests.queues.label_studio_venv import command, seed
from tests.queues.nats_tool import NatsTool, nats_tool
from tests.queues.sqs_tool import sqs_tool
from tests.queues.tool import Tool
from tests.queues.webhook_tool import webhook_tool


class OwnBroker(NatsTool):
    """The broker that the services use."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.environment, self._stack = {}, stack

    async def connect(self, stack: Stack) -> None:
        assert stack.broker is not None, "the stack started one"
        made = await self._stack.enter_async_context(nats_tool(stack.broker))
        self.__dict__.update(made.__dict__ | {"environment": {}})


@asynccontextmanager
async def nats(folder: Path) -> AsyncIterator[Tool]:
    async with AsyncExitStack() as stack:
        yield OwnBroker(stack)


@asynccontextmanager
async def amqp(folder: Path) -> AsyncIterator[Tool]:
    if (binary := rabbitmq_binary()) is None:
        pytest.skip("there is no rabbitmq-server here: apt-get install rabbitmq-server")
    async with amqp_tool(binary, folder / "rabbitmq") as tool:
        yield tool


@asynccontextmanager
async def webhook(folder: Path) -> AsyncIterator[Tool]:
    async with webhook_tool() as tool:
        yield tool


@asynccontextmanager
async def sqs(folder: Path) -> AsyncIterator[Tool]:
    async with sqs_tool() as tool:
        yield tool


@asynccontextmanager
async def sqs_fifo(folder: Path) -> AsyncIterator[Tool]:
    async with sqs_tool(fifo=True) as tool:
        yield tool


@asynccontextmanager
async def label_studio(folder: Path) -> AsyncIterator[Tool]:
    if not (command().exists() and seed().exists()):
        pytest.skip("there is no Label Studio here: make test-labelstudio installs it")
    async with a_label_studio(folder / "label-studio") as tool:
        yield tool


# Each tool takes a minute; `make test` uses the one that is always present.
TOOLS: list[Callable[[Path], AbstractAsyncContextManager[Tool]]] = [nats]
if all_tools():
    TOOLS += [amqp, webhook, sqs, sqs_fifo]
if os.environ.get(WANTED):
    TOOLS += [label_studio]
