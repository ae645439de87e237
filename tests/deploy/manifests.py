"""Pure functions that read parts of manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.rendering import Manifest

_WORKLOADS = {"Deployment", "StatefulSet", "Job"}
_UNITS = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
NAME = "app.kubernetes.io/name"


@dataclass(frozen=True)
class Workload:
    """A manifest that runs pods."""

    manifest: Manifest

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def replicas(self) -> int | None:
        """None if an autoscaler sets it."""
        found: int | None = self.manifest["spec"].get("replicas")
        return found

    @property
    def labels(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.manifest["spec"]["template"]["metadata"]["labels"]
        return found

    @property
    def pod(self) -> Manifest:
        found: Manifest = self.manifest["spec"]["template"]["spec"]
        return found

    @property
    def containers(self) -> Sequence[Manifest]:
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def main(self) -> Manifest:
        """The container that runs what the workload is for."""
        found: Manifest = self.pod["containers"][0]
        return found

    @property
    def volumes(self) -> set[str]:
        claimed = self.manifest["spec"].get("volumeClaimTemplates", ())
        return {volume["name"] for volume in self.pod.get("volumes", ())} | {c["metadata"]["name"] for c in claimed}

    @property
    def is_ours(self) -> bool:
        """Whether it runs a service of labelloop."""
        return self.name in ("trainer", "scorer", "oracle")


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workloads(manifests: Sequence[Manifest]) -> list[Workload]:
    return [Workload(manifest) for manifest in of_kind(manifests, *_WORKLOADS)]


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def chosen(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a selector, of a Service or with matchLabels and matchExpressions, matches."""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return all(labels.get(key) == value for key, value in selector.items())
    by_label = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    expressions = selector.get("matchExpressions", ())
    assert all(expression["operator"] == "In" for expression in expressions), "only In is used"
    return by_label and all(labels.get(each["key"]) in each["values"] for each in expressions)


def bytes_of(quantity: str) -> int:
    """Convert a size in Ki, Mi or Gi to bytes."""
    return int(quantity[:-2]) * _UNITS[quantity[-2:]]


def environment(workload: Workload, manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the environment, with ``""`` for values outside the manifests."""
    maps = {manifest["metadata"]["name"]: manifest.get("data", {}) for manifest in of_kind(manifests, "ConfigMap")}
    found: dict[str, str] = {}
    for container in workload.containers:
        for source in container.get("envFrom", ()):
            found |= maps.get(source.get("configMapRef", {}).get("name"), {})
        found |= {each["name"]: str(each.get("value", "")) for each in container.get("env", ())}
    return found


def references(node: Any, key: str) -> Iterator[Any]:
    """Yield all values under ``key`` at any depth."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == key:
                yield value
            yield from references(value, key)
    elif isinstance(node, list):
        for each in node:
            yield from references(each, key)
