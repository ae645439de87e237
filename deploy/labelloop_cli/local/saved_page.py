"""Keep the labelling page's port and token between starts.

A page that is still open then keeps working, with the annotation results that it holds.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

from labelloop_cli.local.stack import Page


def kept_page(file: Path) -> Page:
    """Read the page saved in ``file``, on any free port if its own is taken now; a new page if there is no file."""
    if not file.exists():
        return Page()
    kept = json.loads(file.read_text())
    return Page(kept["port"] if _is_free(kept["port"]) else 0, kept["token"])


def keep_page(file: Path, page: Page) -> None:
    """Save the page's port and token, readable by this user only."""
    file.touch(mode=0o600)
    file.write_text(json.dumps({"port": page.port, "token": page.token}))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
