"""Write links to the labelling page that lead there, from this machine and from others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from urllib.parse import urlencode

LOOPBACK = "127.0.0.1"
_ANYWHERE = "192.0.2.1"  # reserved for documentation: asking for the way there sends nothing


def own_address() -> str:
    """Return the address by which this machine reaches others; its name if it reaches none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((_ANYWHERE, 9))
        except OSError:
            return socket.gethostname()
        return str(asking.getsockname()[0])


def page_links(
    environment: Mapping[str, str], port: int, token: str, own_address: Callable[[], str] = own_address
) -> tuple[str, str]:
    """Return a link for this machine, and one for others; the latter is empty if the page listens here alone.

    Both sign in whoever opens them.

    Args:
        environment: Where ``LABELLOOP_HTTP_HOST``, ``LABELLOOP_HOST`` and ``LABELLOOP_HTTP_URL`` may be set.
        port: The port that the page listens on.
        own_address: Returns what others call this machine.
    """
    host = (environment.get("LABELLOOP_HTTP_HOST") or environment.get("LABELLOOP_HOST") or LOOPBACK).strip("[]")
    everywhere = _is(host, "is_unspecified")
    here = f"http://{_in_url(LOOPBACK if everywhere else host)}:{port}"
    others = "" if _is(host, "is_loopback") or host == "localhost" else here
    if everywhere:
        others = f"http://{_in_url(own_address())}:{port}"
    others = environment.get("LABELLOOP_HTTP_URL", "").rstrip("/") or others
    asked = f"/?{urlencode({'token': token})}"
    return here + asked, others + asked if others else ""


def _is(host: str, what: str) -> bool:
    try:
        return bool(getattr(ip_address(host), what))
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
