"""Parse the addresses of scorers from the trainer's settings. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_SCHEME = re.compile(r"(ipv4|ipv6|dns):(///)?")


@dataclass(frozen=True)
class Host:
    """The host and port of one or more scorers.

    Attributes:
        name: An IP address (127.0.0.1, ::1), or a host name that resolves to one or more of them.
        port: The port, the same on each of them.
    """

    name: str
    port: int

    @property
    def is_number(self) -> bool:
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True


def parse_hosts(target: str) -> list[Host]:
    """Parse HOST:PORT, or several separated by commas; as in gRPC, ipv4:, ipv6: or dns: may precede them.

    Raises:
        ValueError: If ``target`` has another form.
    """
    scheme = _SCHEME.match(target)
    return [_host(part.strip()) for part in target[scheme.end() if scheme else 0 :].split(",")]


def _host(text: str) -> Host:
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    if not name or not port or parts.netloc != text or "@" in text:
        raise ValueError("name each scorer as HOST:PORT, several with commas between")
    return Host(name, port)


def checked_target(target: str) -> str:
    """Return ``target`` unchanged; raise ValueError if :func:`parse_hosts` cannot parse it."""
    parse_hosts(target)
    return target
