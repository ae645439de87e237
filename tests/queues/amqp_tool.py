"""A RabbitMQ node that tests start, and a tool that uses its queues."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity
from labelloop_cli.local.stack import Stack

from tests.patience import PATIENCE_S
from tests.ports import free_port

_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on the PATH switches to another user
_NODE = "labelloop@localhost"
_GREETING = b"AMQP\x00\x00\x09\x01"


def rabbitmq_binary() -> Path | None:
    found = shutil.which("rabbitmq-server")
    return _DEBIAN if _DEBIAN.exists() else Path(found) if found else None


class RabbitNode:
    """One node with its data in ``folder``, and the port mapper that it needs, both on free ports."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary, self._folder = binary, folder
        self.port, self._epmd_port = free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start the node unless it runs, and return once it greets clients."""
        if self._node is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | self._environment()
        if self._epmd is None:
            command = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = subprocess.Popen(command, env=environment)
        with (self._folder / "output").open("ab") as output:
            self._node = subprocess.Popen(
                [self._binary], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._wait(self._node)

    def kill(self) -> None:
        """End the node as a crash would."""
        if self._node is not None:
            self._node.kill()
            self._node.wait()
            self._node = None

    def allow_memory(self, share: float) -> None:
        """Set the share of the machine's memory beyond which an alarm blocks publishers; 0 blocks them now."""
        control = self._binary.with_name("rabbitmqctl")
        command = [str(control), "-n", _NODE, "set_vm_memory_high_watermark", str(share)]
        subprocess.run(command, env=os.environ | self._environment(), check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait()
            self._epmd = None

    def control(self, *command: str) -> None:
        """Run a command of rabbitmqctl."""
        program = self._binary.with_name("rabbitmqctl")
        environment = os.environ | self._environment() | {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ""}
        subprocess.run([program, *command], env=environment, check=True, capture_output=True, timeout=PATIENCE_S)

    def _environment(self) -> dict[str, str]:
        plugins = self._folder / "plugins"
        plugins.write_text("[].\n")
        return {
            "HOME": str(self._folder),  # where its cookie is kept
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_ALLOW_INPUT": "true",  # the script then becomes the node: one process to kill
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput",
        }

    def _wait(self, node: subprocess.Popen[bytes]) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not self._greets():
            if node.poll() is not None or time.monotonic() > until_s:
                self.stop()
                end = (self._folder / "output").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"rabbitmq-server did not start:\n{end}")
            with suppress(subprocess.TimeoutExpired):
                node.wait(0.05)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(_GREETING)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False


class AmqpTool:
    name = "amqp"

    def __init__(self, node: RabbitNode, prefix: str = "labelloop") -> None:
        self._node = node
        self.requests_queue, self.results_queue = f"{prefix}.requests", f"{prefix}.results"
        self.environment = {
            "LABELLOOP_AMQP_URL": node.url,
            "LABELLOOP_AMQP_REQUESTS": self.requests_queue,
            "LABELLOOP_AMQP_RESULTS": self.results_queue,
        }
        self._connection: AbstractConnection | None = None

    async def requests(self) -> list[dict[str, Any]]:
        return [json.loads(message.body) for message in await self.messages()]

    async def connect(self, stack: Stack) -> None:
        """Do nothing: tool and oracle meet at the broker."""

    async def messages(self) -> list[aio_pika.abc.AbstractIncomingMessage]:
        channel = await self.channel()
        found = []
        try:
            queue = await channel.get_queue(self.requests_queue)
            while message := await queue.get(no_ack=True, fail=False):
                found.append(message)
        except ChannelNotFoundEntity:
            return []
        await channel.close()
        return found

    async def answer(self, result: dict[str, Any]) -> None:
        await self.send(json.dumps(result).encode())

    async def send(self, data: bytes) -> None:
        channel = await self.channel()
        await channel.declare_queue(self.results_queue, durable=True)
        message = aio_pika.Message(data, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, self.results_queue)
        await channel.close()

    async def results_left(self) -> int:
        """Return the number of results that no consumer holds."""
        channel = await self.channel()
        queue = await channel.declare_queue(self.results_queue, passive=True)
        await channel.close()
        return int(queue.declaration_result.message_count or 0)

    async def channel(self) -> AbstractChannel:
        """Return a new channel."""
        if self._connection is None or self._connection.is_closed:
            self._connection = await aio_pika.connect(self._node.url)
        return await self._connection.channel()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def go_down(self) -> None:
        await self.close()
        await asyncio.to_thread(self._node.kill)

    async def come_back(self) -> None:
        await asyncio.to_thread(self._node.start)


@asynccontextmanager
async def amqp_tool(binary: Path, folder: Path) -> AsyncIterator[AmqpTool]:
    node = RabbitNode(binary, folder)
    tool = AmqpTool(node)
    try:
        await tool.come_back()
        yield tool
    finally:
        await tool.close()
        await asyncio.to_thread(node.stop)
