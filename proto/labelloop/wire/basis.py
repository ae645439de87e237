"""Whether what a service has read of the log still stands.

A node of a cluster that was cut off may have handed out an event which the others never had: when they find together
again it is gone, and something else may stand in its place (seen with nats-server 2.9.10). A service that has folded it
must not write what follows from it, nor go on reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

log = structlog.get_logger()


class LogRolledBack(BaseException):
    """The service ends, and starts anew from the log as it stands: no handler of mere errors is to get in the way."""


@dataclass
class Basis:
    """The newest message that was read, and whether anything happened since that may have taken it back."""

    sequence: int = 0
    subject: str = ""
    data: bytes = b""
    in_doubt: bool = False

    def note(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        if sequence > self.sequence:
            self.sequence, self.subject, self.data = sequence, message.subject, message.data

    async def settle(self, js: JetStreamContext, stream: str) -> None:
        """Where in doubt: LogRolledBack if something else stands there now, or nothing; the broker's errors while it is
        away."""
        if not self.in_doubt:
            return
        if self.sequence:
            await self._check(js, stream)
        self.in_doubt = False

    async def _check(self, js: JetStreamContext, stream: str) -> None:
        try:
            standing = await js.get_msg(stream, self.sequence)
        except NotFoundError:
            standing = None
        if standing is None or (standing.subject, standing.data or b"") != (self.subject, self.data):
            log.error("the broker took back an event that was read; starting anew", sequence=self.sequence)
            raise LogRolledBack(f"event {self.sequence} of the log is not what it was")
