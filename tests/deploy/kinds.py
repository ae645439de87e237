"""The kinds of objects that the manifests use, and how an API server announces them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class Kind:
    version: str
    name: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()


KINDS = (
    Kind("v1", "Namespace", "namespaces", namespaced=False, short=("ns",)),
    Kind("v1", "Node", "nodes", namespaced=False, short=("no",)),
    Kind("v1", "Pod", "pods", short=("po",)),
    Kind("v1", "Service", "services", short=("svc",)),
    Kind("v1", "ServiceAccount", "serviceaccounts", short=("sa",)),
    Kind("v1", "Secret", "secrets"),
    Kind("v1", "ConfigMap", "configmaps", short=("cm",)),
    Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",)),
    Kind("apps/v1", "Deployment", "deployments", short=("deploy",)),
    Kind("apps/v1", "StatefulSet", "statefulsets", short=("sts",)),
    Kind("apps/v1", "ReplicaSet", "replicasets", short=("rs",)),
    Kind("batch/v1", "Job", "jobs"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",)),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", short=("hpa",)),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", short=("netpol",)),
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", namespaced=False, short=("pc",)),
    Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False, short=("sc",)),
    Kind("cert-manager.io/v1", "Issuer", "issuers"),
    Kind("cert-manager.io/v1", "Certificate", "certificates", short=("cert", "certs")),
    Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules"),
)
_PARTS = {"pods": ("exec", "portforward", "log"), "deployments": ("scale",), "statefulsets": ("scale",)}


def discovery(path: str) -> dict[str, Any] | None:
    """Return the document by which a server says what it serves; None for any other path."""
    groups = sorted({kind.version for kind in KINDS if "/" in kind.version})
    if path == "/version":
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.4"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(version) for version in groups]}
    for version in ("v1", *groups):
        if path == ("/api/v1" if version == "v1" else f"/apis/{version}"):
            return {"kind": "APIResourceList", "groupVersion": version, "resources": _resources(version)}
    return None


def _group(version: str) -> dict[str, Any]:
    one = {"groupVersion": version, "version": version.split("/")[1]}
    return {"name": version.split("/")[0], "versions": [one], "preferredVersion": one}


def _resources(version: str) -> list[dict[str, Any]]:
    found = []
    for kind in (each for each in KINDS if each.version == version):
        about = {"kind": kind.name, "namespaced": kind.namespaced, "verbs": _VERBS, "singularName": kind.name.lower()}
        found.append({"name": kind.plural, "shortNames": list(kind.short), **about})
        found += [{"name": f"{kind.plural}/{part}", **about} for part in _PARTS.get(kind.plural, ())]
    return found
