"""The calls that network policies admit: the caller may make them and the callee receive them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.deploy.manifests import NAME, chosen, of_kind
from tests.deploy.rendering import Manifest

_NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Pod:
    """A pod in labelloop's namespace or another."""

    name: str
    labels: Mapping[str, str]
    namespace: str = "labelloop"


PODS = [
    *(Pod(name, {NAME: name}) for name in ("nats", "streams", "trainer", "scorer", "oracle", "label-studio")),
    Pod("client", {"labelloop-client": "true"}),
    Pod("anybody", {}),
    Pod("prometheus", {}, "monitoring"),
    Pod("dns", {"k8s-app": "kube-dns"}, "kube-system"),
    Pod("stranger", {}, "default"),
]
_PORTS = {53, 443, 4222, 6222, 6443, 8080, 8222, 9464, 50051, 50052, 50053, 50060}

Call: TypeAlias = tuple[str, str, str, int]


def admitted(manifests: Sequence[Manifest]) -> set[Call]:
    """Calls as caller, callee, protocol and port."""
    policies = of_kind(manifests, "NetworkPolicy")
    return {
        (caller.name, called.name, protocol, port)
        for caller in PODS
        for called in PODS
        for protocol in ("TCP", "UDP")
        for port in _PORTS | _ports_named(policies)
        if caller != called or caller.name == "nats"
        if _lets(policies, caller, called, protocol, port, "Egress")
        and _lets(policies, called, caller, protocol, port, "Ingress")
    }


def _ports_named(policies: Sequence[Manifest]) -> set[int]:
    """All ports that a policy opens, so that unexpected ones are checked."""
    rules = [rule for policy in policies for way in ("ingress", "egress") for rule in policy["spec"].get(way, ())]
    return {each[end] for rule in rules for each in rule.get("ports", ()) for end in ("port", "endPort") if end in each}


def _lets(policies: Sequence[Manifest], pod: Pod, other: Pod, protocol: str, port: int, direction: str) -> bool:
    """Whether ``pod`` may send to (Egress) or take from (Ingress) ``other`` on ``port``."""
    if pod.namespace != "labelloop":
        return True  # other namespaces' policies are not ours
    about = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and chosen(policy["spec"]["podSelector"], pod.labels)
    ]
    rules = [rule for spec in about for rule in spec.get(direction.lower(), ())]
    side = "to" if direction == "Egress" else "from"
    return not about or any(_takes_port(rule, protocol, port) and _takes_peer(rule.get(side), other) for rule in rules)


def _takes_port(rule: Mapping[str, Any], protocol: str, port: int) -> bool:
    return not rule.get("ports") or any(
        each.get("protocol", "TCP") == protocol
        and ("port" not in each or each["port"] <= port <= each.get("endPort", each["port"]))
        for each in rule["ports"]
    )


def _takes_peer(peers: Sequence[Mapping[str, Any]] | None, pod: Pod) -> bool:
    """No list and an empty one both mean any peer."""
    return not peers or any(_is_peer(peer, pod) for peer in peers)


def _is_peer(peer: Mapping[str, Any], pod: Pod) -> bool:
    if "ipBlock" in peer:
        return True  # any pod may have such an address
    if "namespaceSelector" in peer:
        inside = chosen(peer["namespaceSelector"], {_NAMESPACE: pod.namespace})
    else:
        inside = pod.namespace == "labelloop"
    return inside and chosen(peer.get("podSelector", {}), pod.labels)
