"""The overlay that is installed for the tests: one of the product's, in a namespace of its own, and small. Pure."""

from __future__ import annotations

from typing import Any

SERVICES = ("trainer", "scorer", "oracle")
IMAGES = (*SERVICES, "cli")
LABEL = "labelloop-test"  # on all pods, so that a node can be drained of these alone
_POD = "/spec/template/spec"
_SMALL = {"cpu": "50m", "memory": "256Mi"}


def overlay(way: str, name: str, namespace: str, images: str = "") -> dict[str, Any]:
    """Return a kustomization.

    Args:
        way: The relative path to deploy/kubernetes.
        name: The overlay to install, `production` or `local`.
        namespace: Where to install it.
        images: A registry and a tag, ``registry.example/labelloop:0.2.0``; empty for the images that manifests name.
    """
    place, _, tag = images.rpartition(":")
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [f"{way}/overlays/{name}"],
        "components": [f"{way}/components/client"],
        "labels": [{"pairs": {LABEL: namespace}, "includeTemplates": True}],
        "images": [
            {"name": f"labelloop/{image}", "newName": f"{place}/{image}", "newTag": tag} for image in IMAGES if images
        ],
        "configMapGenerator": [{"name": "nats-env", "behavior": "merge", "literals": ["NATS_MAX_FILE_STORE=1GB"]}],
        "patches": [*_small(), *(_without_priority() if name == "production" else ())],
    }


def namespace_overlay(way: str, namespace: str) -> dict[str, Any]:
    """Return a kustomization of the namespace alone, by another name."""
    rename = {"op": "replace", "path": "/metadata/name", "value": namespace}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{way}/namespace"],
        "patches": [_patch("Namespace", "labelloop", rename)],
    }


def _small() -> list[dict[str, Any]]:
    """Lower what the scheduler reserves, and the disks."""
    requests = {"op": "replace", "path": f"{_POD}/containers/0/resources/requests", "value": _SMALL}
    storage = "/spec/volumeClaimTemplates/0/spec/resources/requests/storage"
    return [
        _patch("Deployment", f"({'|'.join(SERVICES)})", requests),
        _patch("StatefulSet", "nats", requests, {"op": "replace", "path": storage, "value": "2Gi"}),
    ]


def _without_priority() -> list[dict[str, Any]]:
    """Leave out the PriorityClass, which belongs to the whole cluster: another installation may use it."""
    remove = {"op": "remove", "path": f"{_POD}/priorityClassName"}
    delete = "$patch: delete\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: labelloop}\n"
    return [
        {"patch": delete},
        _patch("Deployment", f"({'|'.join(SERVICES)})", remove),
        _patch("StatefulSet", "nats", remove),
    ]


def _patch(kind: str, name: str, *operations: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON patch of the objects of a kind whose names match."""
    import json

    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(operations)}
