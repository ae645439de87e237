"""Ports that somebody else has."""

from __future__ import annotations

from labelloop.wire.errors import WrongState


def port_in_use(host: str, port: int, setting: str = "LABELLOOP_PORT") -> WrongState:
    """The error where ``port``, which ``setting`` names, cannot be listened on."""
    message = f"cannot listen on {host}:{port}: is something else there? Set {setting} to a free port"
    return WrongState("PORT_IN_USE", message, host=host, port=port)
