"""Checks that pods end and are replaced without loss, and that what is deleted holds no labels. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.deploy.manifests import environment, of_kind, title, workloads
from tests.deploy.rendering import Manifest

_ON_DEAD_NODE_S = 30


def drains_end_in_time(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        if workload.is_ours:
            [container] = workload.containers
            command, pause_s = container["lifecycle"]["preStop"]["exec"]["command"]
            drain_s = float(environment(workload, manifests)["LABELLOOP_DRAIN_S"])
            if command != "sleep" or float(pause_s) + drain_s >= workload.pod["terminationGracePeriodSeconds"]:
                yield f"{workload.name}: is killed before it has drained"


def stateless_pods_leave_dead_nodes_soon(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        stay_s = {
            each["key"].removeprefix("node.kubernetes.io/"): each.get("tolerationSeconds")
            for each in workload.pod.get("tolerations", ())
            if each["effect"] == "NoExecute"
        }
        if workload.is_ours and stay_s != {"not-ready": _ON_DEAD_NODE_S, "unreachable": _ON_DEAD_NODE_S}:
            yield f"{workload.name}: is not replaced {_ON_DEAD_NODE_S} s after its node died"


def upgrades_need_no_room(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A Deployment of several pods replaces them one by one in place: a full cluster has no room for one more."""
    least = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"]
        for each in of_kind(manifests, "HorizontalPodAutoscaler")
    }
    for manifest in of_kind(manifests, "Deployment"):
        replicas = manifest["spec"].get("replicas") or least.get(manifest["metadata"]["name"], 1)
        if replicas > 1 and manifest["spec"]["strategy"]["rollingUpdate"] != {"maxUnavailable": 1, "maxSurge": 0}:
            yield f"{title(manifest)}: its upgrade waits for room"


def labels_outlive_the_overlay(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Deleting an overlay must delete no volume, neither itself nor with its namespace or its StatefulSet."""
    for manifest in of_kind(manifests, "Namespace", "PersistentVolumeClaim"):
        yield f"{title(manifest)} would be deleted with the overlay"
    for manifest in of_kind(manifests, "StatefulSet"):
        kept = manifest["spec"].get("persistentVolumeClaimRetentionPolicy")
        if kept != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
            yield f"{title(manifest)}: its volumes may be deleted with it"
