"""SQS, simulated by moto in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from labelloop_cli.local.nats.port import HOST
from labelloop_cli.local.stack import Stack

from tests.ports import free_port

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_REGION = "eu-west-1"
_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


class MotoProcess:
    """Keeps queues and objects in memory: they survive only ``down``. Listings of objects have pages of five."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("moto_process.py"), str(self.port)],
            env=os.environ | _CREDENTIALS | {"MOTO_S3_DEFAULT_MAX_KEYS": "5"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.is_up = False
        self.up()

    def up(self) -> None:
        if not self.is_up:
            self._say("up")
            self.is_up = True

    def down(self) -> None:
        if self.is_up:
            self._say("down")
            self.is_up = False

    def refuse(self, status: int, count: int) -> None:
        """Answer the next ``count`` requests with this status."""
        self._say(f"refuse {status} {count}")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point libraries at this process."""
        return _CREDENTIALS | {"AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": _REGION}

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != word:
            raise RuntimeError(f"moto did not go {word}")

    def client(self, service: str = "sqs") -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=_REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


class SqsTool:
    """A tool with two queues."""

    name = "sqs"

    def __init__(self, moto: MotoProcess, *, fifo: bool = False) -> None:
        self._moto, self._fifo, self.client = moto, fifo, moto.client()
        self.requests_url, self.results_url = self._made("requests"), self._made("results")
        self.environment = _CREDENTIALS | {
            "LABELLOOP_SQS_REQUESTS_URL": self.requests_url,
            "LABELLOOP_SQS_RESULTS_URL": self.results_url,
            "LABELLOOP_SQS_ENDPOINT_URL": moto.url,
            "LABELLOOP_SQS_REGION": _REGION,
        }

    async def connect(self, stack: Stack) -> None:
        """Do nothing: the queues are shared."""

    async def requests(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._requests)

    async def answer(self, result: dict[str, Any]) -> None:
        await self.send(json.dumps(result).encode())

    async def send(self, data: bytes) -> None:
        ordered = {"MessageGroupId": "run-1", "MessageDeduplicationId": uuid4().hex} if self._fifo else {}
        await asyncio.to_thread(
            self.client.send_message, QueueUrl=self.results_url, MessageBody=data.decode(), **ordered
        )

    async def results_left(self) -> int:
        answer = await asyncio.to_thread(
            self.client.get_queue_attributes, QueueUrl=self.results_url, AttributeNames=_COUNTS
        )
        return sum(int(answer["Attributes"][name]) for name in _COUNTS)

    async def go_down(self) -> None:
        await asyncio.to_thread(self._moto.down)

    async def come_back(self) -> None:
        await asyncio.to_thread(self._moto.up)

    def close(self) -> None:
        self.client.close()

    def _requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while messages := self._received():
            found += [json.loads(message["Body"]) for message in messages]
        return found

    def _received(self) -> list[dict[str, Any]]:
        answer = self.client.receive_message(QueueUrl=self.requests_url, MaxNumberOfMessages=10)
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        for message in messages:
            self.client.delete_message(QueueUrl=self.requests_url, ReceiptHandle=message["ReceiptHandle"])
        return messages

    def _made(self, kind: str) -> str:
        name, attributes = f"{uuid4().hex}-{kind}", {}
        if self._fifo:
            name, attributes = f"{name}.fifo", {"FifoQueue": "true"}
        return str(self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


@asynccontextmanager
async def sqs_tool(*, fifo: bool = False) -> AsyncIterator[SqsTool]:
    moto = await asyncio.to_thread(MotoProcess)
    try:
        with closing(SqsTool(moto, fifo=fifo)) as tool:
            yield tool
    finally:
        await asyncio.to_thread(moto.stop)
