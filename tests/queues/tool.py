"""An annotation tool under test, and its annotators."""

from __future__ import annotations

from typing import Any, Protocol

from labelloop_cli.local.stack import Stack


class Tool(Protocol):
    """``environment`` configures the oracle for the tool; ``name`` is the tool's name in run specs."""

    name: str

    @property
    def environment(self) -> dict[str, str]: ...

    async def connect(self, stack: Stack) -> None:
        """Connect to services started with ``environment``."""
        ...

    async def requests(self) -> list[dict[str, Any]]:
        """Requests received since the last call, in order, without waiting: JSON of LabelRequests, as far as the tool
        keeps it, always with ``request_id``."""
        ...

    async def answer(self, result: dict[str, Any]) -> None:
        """Submit the JSON of a LabelResult as the tool's users do."""
        ...

    async def go_down(self) -> None:
        """Stop responding; keep data on disk."""
        ...

    async def come_back(self) -> None: ...
