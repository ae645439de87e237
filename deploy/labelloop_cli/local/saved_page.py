"""Keep the labelling page's port and token between starts.

Links that were sent then keep working, and a page that is still open keeps the annotation results that it holds.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from labelloop_cli.local.stack import Page

PORT = 8080
"""The page's port at the first start."""
_BYTES_MAX = 4096
_LOST = "links that were sent before do not work any more: send the new ones"


@dataclass(frozen=True)
class KeptPage:
    """A page to serve.

    Attributes:
        notes: What became of links that were sent before, if they do not work any more; a sentence each.
    """

    page: Page
    notes: tuple[str, ...] = ()


def kept_page(file: Path, *, port: int | None = 0, token: str = "", first_port: int = 0) -> KeptPage:
    """Return the page saved in ``file``, on any free port if its own is taken now; a new page if there is no file.

    Args:
        port: The port that was asked for; 0 or None for the saved one.
        token: The token that was asked for; empty for the saved one.
        first_port: The port if none is saved and ``port`` is None.
    """
    saved, notes = _read(file)
    if saved is None:
        return KeptPage(_page(first_port if port is None else port, token), () if token else notes)
    if not port:
        port = saved.port
        if port and not _is_free(port):
            notes = (f"port {port}, which the page had, is in use, so it has another one: {_LOST}",)
            port = 0
    return KeptPage(_page(port, token or saved.token), notes)


def keep_page(file: Path, page: Page) -> None:
    """Save the page's port and token, readable by this user only: the file is there whole or not at all."""
    new = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        new.touch(mode=0o600, exist_ok=False)
        with new.open("w") as output:
            json.dump({"port": page.port, "token": page.token}, output)
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _page(port: int, token: str) -> Page:
    return Page(port, token) if token else Page(port)


def _read(file: Path) -> tuple[Page | None, tuple[str, ...]]:
    """Return the page in ``file``, or None and a note if links that were sent before lose their secret."""
    try:
        with file.open("rb") as saved:
            return _parsed(saved.read(_BYTES_MAX)), ()
    except FileNotFoundError:
        used = (file.parent / "nats").exists()
        return None, (f"no secret of the page is kept in {file} yet, so a new one is made: {_LOST}",) if used else ()
    except (OSError, ValueError, LookupError, TypeError) as error:
        return None, (f"the page's secret in {file} cannot be read ({error}), so a new one is made: {_LOST}",)


def _parsed(data: bytes) -> Page:
    """Return the page that a file holds. Raises ValueError, LookupError or TypeError if it holds none."""
    kept = json.loads(data)
    port, token = kept["port"], kept["token"]
    if not isinstance(port, int) or not 0 <= port <= 65_535 or not isinstance(token, str) or len(token) < 8:
        raise ValueError("it holds no port and no token")
    return Page(port, token)


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
