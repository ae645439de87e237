"""What services complain of: lines of level error in their logs, which JSON must be, and restarts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from labelloop_cli.local.stack import Service

_LOUD = {"error", "critical"}


class LogReader:
    """Reads what services add to their logs after it was made, or last read."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._files = [service.log_file for service in services]
        self._read = {file: _size(file) for file in self._files}

    def errors(self, explained: Collection[str] = ()) -> list[str]:
        """Return the new lines of level error, but for the events that are ``explained``, each with its file.

        So is a traceback past the log. Other lines that are no JSON are notes of gRPC's core.
        """
        found = []
        for file in self._files:
            for line in self._new_lines(file):
                said = _parsed(line)
                if said.get("level") in _LOUD and said.get("event") not in explained:
                    found.append(f"{file.parent.name}/{file.name}: {line}")
        return found

    def _new_lines(self, file: Path) -> list[str]:
        with file.open("rb") as opened:
            opened.seek(self._read[file])
            text = opened.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[file] += len(whole)
        return whole.decode(errors="replace").splitlines()


def restarts(services: Mapping[str, Service], asked: Collection[str] = ()) -> list[str]:
    """Return the services that were restarted, but for those that somebody ``asked`` to."""
    return [
        f"{name} was restarted {service.restarts} times"
        for name, service in services.items()
        if service.restarts and name not in asked
    ]


def _parsed(line: str) -> Mapping[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if isinstance(said, dict):
        return said
    return {"level": "error" if line.startswith("Traceback") else "info", "event": line}


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
