"""Tell whether an address is on this machine. Pure functions."""

from __future__ import annotations

from ipaddress import ip_address


def is_this_machine(address: str) -> bool:
    """Return whether a gRPC ``address`` is a socket file or a loopback address, by its text alone."""
    scheme, colon, rest = address.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        address = rest.rpartition("/")[2]
    host = address.rpartition(":")[0] or address
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name
        return False
