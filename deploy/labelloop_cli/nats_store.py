"""The folder that a nats-server of ours works in: its data, its log, and files that say who uses it."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from urllib.parse import urlsplit

from labelloop.wire.errors import WrongState

# By default a server takes three quarters of what is free when it starts, which a store that has grown since exceeds.
_CONFIG = "jetstream { max_file_store: 10TB }\n"
_TAIL_LINES = 5


class NatsStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / "nats-server.log"
        self.config_file = folder / "nats-server.conf"
        self.pid_file = folder / "nats-server.pid"
        self._log_start = 0

    def claim(self) -> int:
        """Make the folder ready and lock it; a descriptor that holds the lock for as long as any process has it open.

        Raises WrongState when another server uses the folder, or when it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._locked()
            self.config_file.write_text(_CONFIG)
            self.log_file.touch()
        except OSError as error:
            message = f"the broker cannot keep its data in {self.folder}: {error}; make it writable or choose another"
            raise WrongState("STORE_UNUSABLE", message, folder=self.folder, error=error) from error
        self._log_start = self.log_file.stat().st_size
        for left_over in self.folder.glob("*.ports"):  # of a server that was killed; its process id may come again
            left_over.unlink()
        return lock.detach()

    def _locked(self) -> _Descriptor:
        ...

    def port(self, pid: int) -> int | None:
        """The port that the server with process id ``pid`` listens on; None as long as it does not."""
        try:
            text = next(self.folder.glob(f"*_{pid}.ports")).read_text()
            return urlsplit(json.loads(text)["nats"][0]).port
        except (StopIteration, ValueError):  # not there yet, or not wholly written
            return None

    def log_tail(self) -> str:
        """The last lines that the newest server logged."""
