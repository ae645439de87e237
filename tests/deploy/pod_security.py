"""Checks for Pod Security's level `restricted`, which the API server enforces and no schema knows, and that pods write
only to volumes with a limit. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.deploy.manifests import Workload, of_kind, title, workloads
from tests.deploy.rendering import Manifest

_LEVELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
_OF_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_OF_POD = {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "seccompProfile"}
_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
_SHARED = ("hostNetwork", "hostPID", "hostIPC")


def namespaces_restrict_pods(manifests: Sequence[Manifest]) -> Iterator[str]:
    for namespace in of_kind(manifests, "Namespace"):
        if not _LEVELS.items() <= namespace["metadata"].get("labels", {}).items():
            yield f"{title(namespace)} lets pods do more than the level `restricted`"


def pods_are_restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        for fault in (*_faults_of_pod(workload.pod), *_faults_of_containers(workload)):
            yield f"{workload.name}: {fault}"


def _faults_of_pod(pod: Manifest) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        yield "runs as root, or as whoever the image says"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "may make any system call"
    if not context.keys() <= _OF_POD or any(pod.get(name) for name in _SHARED):
        yield "shares its node's namespaces, or sets what was not looked over"
    for volume in pod.get("volumes", ()):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not needed"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} may fill its node's disk"


def _faults_of_containers(workload: Workload) -> Iterator[str]:
    for container in workload.containers:
        if container.get("securityContext") != _OF_CONTAINER:
            yield "keeps privileges, or may write to its root"
        if any("hostPort" in port for port in container.get("ports", ())):
            yield "takes a port of its node"


def no_links_in_the_environment(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Service links would set NATS_PORT and the like, which other programs may read, for each service."""
    for workload in workloads(manifests):
        if workload.pod.get("enableServiceLinks") is not False:
            yield f"{workload.name}: other services' addresses are in its environment"
