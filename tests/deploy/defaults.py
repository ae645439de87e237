"""What an API server fills in where a manifest says nothing, for the kinds that the manifests use. Pure.

The values are those of Kubernetes 1.32 to 1.34 (pkg/apis/*/v1/defaults.go). Quantities are written as the server does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

Node = dict[str, Any]
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_MODE = 0o644
_CLAIM = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
_STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
_SCALE_UP = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}


def filled_in(manifest: Mapping[str, Any]) -> Node:
    """Return the manifest as the server keeps it."""
    new = deepcopy(dict(manifest))
    if new["kind"] in _BY_KIND:
        _BY_KIND[new["kind"]](new)
    return new


def fill(node: Node, defaults: Mapping[str, Any]) -> None:
    """Set what is missing, and in mappings that are there what is missing in them."""
    for key, value in defaults.items():
        if key not in node:
            node[key] = deepcopy(value)
        elif isinstance(value, Mapping) and isinstance(node[key], dict):
            fill(node[key], value)


def quantity(value: str | int | float) -> str:
    """Return a quantity in its canonical form, of those that manifests use: whole cores, 1500m, 2Gi."""
    text = str(value)
    if text.endswith("m") and text[:-1].isdigit() and int(text[:-1]) % 1000 == 0:
        return str(int(text[:-1]) // 1000)
    for small, large in (("Ki", "Mi"), ("Mi", "Gi"), ("Gi", "Ti")):
        if text.endswith(small) and int(text[:-2]) % 1024 == 0:
            return quantity(f"{int(text[:-2]) // 1024}{large}")
    return text


def _quantities(resources: Node) -> None:
    for amounts in resources.values():
        for name, value in amounts.items():
            amounts[name] = quantity(value)


def _pod(spec: Node) -> None:
    fill(
        spec,
        {
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30,
            "securityContext": {},
        },
    )
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        _container(container)
    for volume in spec.get("volumes", ()):
        _volume(volume)


def _container(container: Node) -> None:
    fill(container, {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"})
    fill(container, {"imagePullPolicy": "IfNotPresent", "resources": {}})
    _quantities(container["resources"])
    for port in container.get("ports", ()):
        fill(port, {"protocol": "TCP"})
    for probe in (container[name] for name in ("startupProbe", "livenessProbe", "readinessProbe") if name in container):
        fill(probe, _PROBE)
        if "httpGet" in probe:
            fill(probe["httpGet"], {"scheme": "HTTP", "path": "/"})
        if "grpc" in probe:
            fill(probe["grpc"], {"service": ""})
    for each in container.get("env", ()):
        _field(each.get("valueFrom", {}))


def _field(source: Node) -> None:
    if "fieldRef" in source:
        fill(source["fieldRef"], {"apiVersion": "v1"})


def _volume(volume: Node) -> None:
    for kind in ("secret", "configMap", "projected"):
        if kind in volume:
            fill(volume[kind], {"defaultMode": _MODE})
    if "sizeLimit" in volume.get("emptyDir", {}):
        volume["emptyDir"]["sizeLimit"] = quantity(volume["emptyDir"]["sizeLimit"])
    for source in volume.get("projected", {}).get("sources", ()):
        if "serviceAccountToken" in source:
            fill(source["serviceAccountToken"], {"expirationSeconds": 3600})
        for item in source.get("downwardAPI", {}).get("items", ()):
            _field(item)


def _deployment(manifest: Node) -> None:
    spec = manifest["spec"]
    fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    fill(spec, {"strategy": {"type": "Recreate"} if spec.get("strategy", {}).get("type") == "Recreate" else _STRATEGY})
    _pod(spec["template"]["spec"])


def _stateful_set(manifest: Node) -> None:
    spec = manifest["spec"]
    fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady"})
    fill(spec, {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}})
    fill(spec, {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}})
    _pod(spec["template"]["spec"])
    for claim in spec.get("volumeClaimTemplates", ()):
        fill(claim, _CLAIM)
        _claim(claim)


def _claim(manifest: Node) -> None:
    fill(manifest, {"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}})
    _quantities(manifest["spec"]["resources"])


def _service(manifest: Node) -> None:
    fill(manifest["spec"], {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
    for port in manifest["spec"]["ports"]:
        fill(port, {"protocol": "TCP", "targetPort": port["port"]})


def _network_policy(manifest: Node) -> None:
    for rule in (*manifest["spec"].get("ingress", ()), *manifest["spec"].get("egress", ())):
        for port in rule.get("ports", ()):
            fill(port, {"protocol": "TCP"})


def _autoscaler(manifest: Node) -> None:
    fill(manifest["spec"], {"minReplicas": 1})
    if "behavior" in manifest["spec"]:
        fill(manifest["spec"], {"behavior": {"scaleUp": _SCALE_UP, "scaleDown": {"selectPolicy": "Max"}}})


def _role_binding(manifest: Node) -> None:
    fill(manifest["roleRef"], {"apiGroup": "rbac.authorization.k8s.io"})


def _priority_class(manifest: Node) -> None:
    fill(manifest, {"preemptionPolicy": "PreemptLowerPriority"})


def _secret(manifest: Node) -> None:
    fill(manifest, {"type": "Opaque"})


_BY_KIND: dict[str, Callable[[Node], None]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "PersistentVolumeClaim": _claim,
    "Service": _service,
    "NetworkPolicy": _network_policy,
    "HorizontalPodAutoscaler": _autoscaler,
    "RoleBinding": _role_binding,
    "PriorityClass": _priority_class,
    "Secret": _secret,
}
