"""Decide by the name in a caller's certificate what it may call.

Any certificate of the authority opens a connection; what a call on it may do depends on the certificate's common name,
so that a service whose key leaked can do no more than that service does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from labelloop.errors import NotAllowed
from labelloop.settings import ServiceSettings

Check: TypeAlias = Callable[[Any], None]
CheckOf: TypeAlias = Callable[[str, str], Check]

_EVERYBODY = frozenset({"grpc.health.v1.Health"})

# What each service calls of others. Clients call everything; nobody else calls anything.
CALLS_OF_SERVICES: Mapping[str, Mapping[str, Collection[str]]] = {
    "trainer": {
        "labelloop.oracle.v1.OracleService": {"DescribeDataset"},
        "labelloop.scorer.v1.ScorerService": {
            "RankPool",
            "RankPoolStream",
            "GetSamples",
            "ClusterPool",
            "LearnFeatures",
            "ExtractFeatures",
            "FindFetchedShards",
        },
    },
    "scorer": {},
    "oracle": {},
    "nats": {},
}


class Callers:
    """Checks who calls.

    Args:
        clients: Common names of certificates that may call everything.
    """

    def __init__(self, clients: Collection[str]) -> None:
        self._clients = frozenset(clients)

    def check_of(self, service: str, method: str) -> Check:
        """Return a function that raises NotAllowed if the caller of ``service``'s ``method`` may not call it."""
        if service in _EVERYBODY:
            return admit
        allowed = self._clients | {
            name for name, calls in CALLS_OF_SERVICES.items() if method in calls.get(service, ())
        }

        def check(context: Any) -> None:
            names = [name.decode(errors="replace") for name in context.auth_context().get("x509_common_name", ())]
            if not allowed.intersection(names):
                raise _refusal(", ".join(names), method)

        return check


def admit(context: Any) -> None:
    """Admit the caller."""


def everybody(service: str, method: str) -> Check:
    """Return :func:`admit`, for servers whose callers have no certificates."""
    return admit


def check_of(settings: ServiceSettings) -> CheckOf:
    """Return how a service checks its callers: by certificate if it has one, not at all otherwise."""
    return Callers(settings.client_names).check_of if settings.tls_dir else everybody


def _refusal(name: str, method: str) -> NotAllowed:
    message = (
        f"the certificate of {name or 'no name'!r} may not call {method}; call with one whose common name is in "
        "LABELLOOP_CLIENTS of the service"
    )
    return NotAllowed("CALLER_NOT_ALLOWED", message, caller=name, method=method)
