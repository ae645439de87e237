"""A custom annotation tool that receives requests and sends results by webhook."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from labelloop_cli.local.stack import Stack
from standardwebhooks import Webhook as Key
from standardwebhooks import WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.patience import PATIENCE_S
from tests.queues.http_server import served

RESULTS_PATH = "/queue/results"


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@dataclass
class Message:
    """A received message; ``answered`` is the response status."""

    headers: dict[str, str]
    body: bytes
    answered: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


class WebhookTool:
    """Handle each message once, by its id. ``refusals`` are sent instead of 204, in order; each response takes
    ``lag_s``."""

    name = "webhook"

    def __init__(self) -> None:
        self.secret = new_secret()
        self.environment: dict[str, str] = {}
        self.refusals: list[Response] = []
        self.lag_s = 0.0
        self.messages: list[Message] = []
        self.retracted: list[str] = []
        self._requests: list[dict[str, Any]] = []
        self._taken: set[str] = set()
        self._port, self._server = 0, AsyncExitStack()
        self._oracle = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hook"

    @property
    def results_url(self) -> str:
        return self._oracle + RESULTS_PATH

    async def connect(self, stack: Stack) -> None:
        self.send_to(f"http://127.0.0.1:{stack.services['oracle'].http_port}")

    def send_to(self, base_url: str) -> None:
        self._oracle = base_url

    async def requests(self) -> list[dict[str, Any]]:
        found, self._requests = self._requests, []
        return found

    async def answer(self, result: dict[str, Any]) -> None:
        """Send the same message until it is accepted."""
        body, message_id = json.dumps({"type": "label.submitted", "data": {"results": [result]}}), new_id()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    response = await self.post(body, message_id=message_id)
                    if response.status_code < 500:
                        response.raise_for_status()
                        return
                except httpx.TransportError:
                    pass  # not reachable yet
                await asyncio.sleep(0.1)

    async def post(self, body: str, *, message_id: str | None = None, age_s: float = 0.0) -> httpx.Response:
        """Send a message signed ``age_s`` ago."""
        return await self.send(body, self.signed(body, message_id=message_id, age_s=age_s))

    async def send(self, body: str | bytes, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            return await client.post(self.results_url, content=body, headers=headers)

    def signed(self, body: str, *, message_id: str | None = None, age_s: float = 0.0) -> dict[str, str]:
        at_s, message_id = int(datetime.now(tz=UTC).timestamp() - age_s), message_id or new_id()
        signature = Key(self.secret).sign(message_id, datetime.fromtimestamp(at_s, tz=UTC), body)
        return {"webhook-id": message_id, "webhook-timestamp": str(at_s), "webhook-signature": signature}

    async def go_down(self) -> None:
        await self._server.aclose()

    async def come_back(self) -> None:
        app = Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])
        self._port = await self._server.enter_async_context(served(app, self._port))
        self.environment = {
            "LABELLOOP_WEBHOOK_URL": self.url,
            "LABELLOOP_WEBHOOK_SECRET": self.secret,
            "LABELLOOP_HTTP_PORT": "0",
            "LABELLOOP_HTTP_TOKEN": secrets.token_urlsafe(12),
        }

    async def _hook(self, request: Request) -> Response:
        body = await request.body()
        await asyncio.sleep(self.lag_s)
        answer = self.refusals.pop(0) if self.refusals else self._take(request, body)
        self.messages.append(Message(dict(request.headers), body, answer.status_code))
        return answer

    def _take(self, request: Request, body: bytes) -> Response:
        try:
            said = Key(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError:
            return Response(status_code=401)
        if request.headers["webhook-id"] not in self._taken:
            self._taken.add(request.headers["webhook-id"])
            self._requests += said["data"].get("requests", [])
            self.retracted += said["data"].get("request_ids", [])
        return Response(status_code=204)


def new_id() -> str:
    return f"msg_{secrets.token_hex(8)}"


@asynccontextmanager
async def webhook_tool() -> AsyncIterator[WebhookTool]:
    tool = WebhookTool()
    await tool.come_back()
    try:
        yield tool
    finally:
        await tool.go_down()
