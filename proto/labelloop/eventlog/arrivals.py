"""Wait for the messages of a subscription without a task for each of them.

nats-py's ``next_msg`` creates two tasks a message, which is most of what reading a long log costs.
"""

from __future__ import annotations

import asyncio
from collections import deque

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeoutError

_AT_ONCE = 50
"""Messages taken before other tasks get their turn: a few milliseconds of work."""


class Arrivals:
    """The messages that a subscription received and nobody took yet; ``receive`` is the subscription's callback.

    Nothing bounds them here: use it with a consumer that has flow control, which is answered as messages are taken.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._messages: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._taken = 0

    async def receive(self, message: Msg) -> None:
        self._messages.append(message)
        self._arrived.set()

    async def next(self, within_s: float) -> Msg:
        """Return the next message.

        Raises:
            TimeoutError: nats-py's, if no message arrives within ``within_s`` seconds.
            ConnectionClosedError: If none arrives, and none will.
        """
        self._taken += 1
        if self._taken % _AT_ONCE == 0:
            await asyncio.sleep(0)
        if not self._messages:
            await self._wait(within_s)
        return self._messages.popleft()

    async def _wait(self, within_s: float) -> None:
        self._arrived.clear()
        if self._client.is_closed:
            raise ConnectionClosedError
        try:
            async with asyncio.timeout(within_s):
                await self._arrived.wait()
        except TimeoutError as error:
            raise (ConnectionClosedError if self._client.is_closed else NatsTimeoutError)() from error
