"""Where the page was served last, and what opened it: a page that is still open goes on, with the answers it keeps."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from labelloop_cli.stack import Page


def kept_page(file: Path) -> Page:
    """The page that ``file`` tells of, on any free port where somebody else has its port now; a new one without."""
    if not file.exists():
        return Page()
    kept = json.loads(file.read_text())
    return Page(kept["port"] if _is_free(kept["port"]) else 0, kept["token"])


def keep_page(file: Path, page: Page) -> None:
    """For this user's eyes alone."""
    file.touch(mode=0o600)
    file.write_text(json.dumps({"port": page.port, "token": page.token}))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
