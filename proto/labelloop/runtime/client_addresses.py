"""Group the addresses of clients. Pure functions."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

_ONE_SUBSCRIBER = 64  # bits of an IPv6 address: one machine may use all addresses that share them


def client_group(address: str) -> str:
    """Return the group that limits apply to: an IPv4 address, or the /64 network of an IPv6 address.

    IPv4 addresses that are mapped into IPv6 count as IPv4. A text that is no address is its own group.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _ONE_SUBSCRIBER), strict=False))
