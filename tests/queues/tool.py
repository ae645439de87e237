"""A real tool under test, and somebody who labels in it."""

from __future__ import annotations

from typing import Any, Protocol

from labelloop_cli.local.stack import Stack


class Tool(Protocol):
    """``environment`` is what the oracle's process needs to know of it; ``name`` what run specs call it."""

    name: str

    @property
    def environment(self) -> dict[str, str]: ...

    async def connect(self, stack: Stack) -> None:
        """Get to know the services that were started with ``environment``."""
        ...

    async def requests(self) -> list[dict[str, Any]]:
        """What has come since the last call, in order: LabelRequests as in their JSON, as far as the tool keeps them;
        ``request_id`` always. Does not wait."""
        ...

    async def answer(self, result: dict[str, Any]) -> None:
        """Say it the way the tool's users do: a LabelResult as in its JSON."""
        ...

    async def go_down(self) -> None:
        """Stop answering, keeping what is kept on disk."""
        ...

    async def come_back(self) -> None: ...
