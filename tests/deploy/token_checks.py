"""A check that one container alone may use Kubernetes' API, and what it may do there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labelloop_cli.operations.keys import USERS

from tests.deploy.manifests import Workload, of_kind, references, title, workloads
from tests.deploy.rendering import Manifest

_OF_KEYS = [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [f"nkey-{user}" for user in USERS],
        "verbs": ["get", "update"],
    },
]


def the_keys_container_alone_holds_a_token(manifests: Sequence[Manifest]) -> Iterator[str]:
    accounts = {each["metadata"]["name"]: each for each in of_kind(manifests, "ServiceAccount")}
    for workload in workloads(manifests):
        name = workload.pod.get("serviceAccountName")
        if name not in accounts or name != workload.name:
            yield f"{workload.name}: has no account of its own"
        elif accounts[name].get("automountServiceAccountToken") is not False:
            yield f"{workload.name}: its account hands tokens out"
        if workload.pod.get("automountServiceAccountToken") is not False:
            yield f"{workload.name}: every container gets a token"
        holders = list(_token_holders(workload))
        if holders != (["keys"] if workload.name == "nats" else []):
            yield f"{workload.name}: {holders} hold a token"
    for role in of_kind(manifests, "Role", "ClusterRole"):
        if role["kind"] == "ClusterRole" or role["rules"] != _OF_KEYS:
            yield f"{title(role)} may do more than make the keys of the broker's users"


def _token_holders(workload: Workload) -> Iterator[str]:
    """Yield the names of the containers that mount a volume with a token."""
    tokens = {each["name"] for each in workload.pod.get("volumes", ()) if list(references(each, "serviceAccountToken"))}
    for container in workload.containers:
        if tokens & {mount["name"] for mount in container.get("volumeMounts", ())}:
            yield container["name"]
