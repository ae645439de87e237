"""Manage the folder of a local nats-server: its data, its log, its lock, and files with its process id and port."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from labelloop.errors import WrongState

# By default a server allows its store three quarters of the space free at its start, which a grown store may exceed.
_CONFIG = "jetstream { max_file_store: 10TB }\n"
_TAIL_LINES = 5


class NatsStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log_file = self.folder / "nats-server.log"
        self.config_file = self.folder / "nats-server.conf"
        self.pid_file = self.folder / "nats-server.pid"
        self._log_start = 0

    def claim(self) -> IO[str]:
        """Prepare the folder for one server. The file returned locks it for as long as any process has it open.

        Raises WrongState if another server uses the folder, or if it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._locked()
            self.config_file.write_text(_CONFIG)
            self.log_file.touch()
            self.pid_file.unlink(missing_ok=True)
        except OSError as error:
            message = f"the broker cannot keep its data in {self.folder}: {error}; make it writable, or name another"
            raise WrongState("STORE_UNUSABLE", message, folder=self.folder, error=error) from error
        self._log_start = self.log_file.stat().st_size
        for left_over in self.folder.glob("*.ports"):  # of a killed server, whose process id may be reused
            left_over.unlink()
        return lock

    def _locked(self) -> IO[str]:
        lock = (self.folder / "nats-server.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise self._in_use() from None
        return lock

    def _in_use(self) -> WrongState:
        message = f"another nats-server keeps its data in {self.folder}: end what started it"
        if self.pid_file.exists():
            message += f", or, where that is gone already, `kill {self.pid_file.read_text().strip()}`"
        return WrongState("STORE_IN_USE", message, folder=self.folder)

    def port(self, pid: int) -> int | None:
        """Return the port that the server with process id ``pid`` listens on, or None until it reports one."""
        try:
            text = next(self.folder.glob(f"*_{pid}.ports")).read_text()
            url: str = json.loads(text)["nats"][0]
        except (StopIteration, FileNotFoundError, ValueError):  # not there yet, or not fully written
            return None
        return urlsplit(url).port

    def log_tail(self) -> str:
        """Return the last lines that the newest server logged, indented."""
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (nothing)"
