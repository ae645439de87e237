"""Where scorers are, as a setting says it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_SCHEME = re.compile(r"(ipv4|ipv6|dns):(///)?")


@dataclass(frozen=True)
class Host:
    """``name`` is a number (127.0.0.1, ::1) or a name that stands for one or more of them."""

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
    """The hosts of HOST:PORT, or of several with commas between; ipv4:, ipv6: or dns: may stand before them, as gRPC
    has it. ValueError where it is none of that."""
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
    """``target`` itself; ValueError where it names no hosts."""
    parse_hosts(target)
    return target
