"""Raise the limit of open files and sockets, and divide it among what a service listens on."""

from __future__ import annotations

import resource

import structlog

_SHARE = 4  # a listener gets this part of all descriptors: the rest is for gRPC, the broker, stores and files
_MACOS_MOST = 10_240  # where the hard limit is "unlimited", macOS refuses more

log = structlog.get_logger()


def raise_descriptor_limit() -> int:
    """Raise the process's limit of open descriptors to its hard limit, and return the limit then in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _MACOS_MOST) if hard == resource.RLIM_INFINITY else hard
    if soft in (wanted, resource.RLIM_INFINITY):
        return descriptor_limit()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        action = "going on with fewer: raise it with ulimit -n, or in the unit that starts the service"
        log.warning("descriptor_limit_stays", action=action, limit=soft, problem=str(error))
    return descriptor_limit()


def descriptor_limit() -> int:
    """Return how many descriptors the process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MACOS_MOST if soft == resource.RLIM_INFINITY else soft


def listener_budget(wanted: int) -> int:
    """Return how many connections one listener may hold: ``wanted``, or a quarter of all descriptors if less."""
    return max(1, min(wanted, descriptor_limit() // _SHARE))
