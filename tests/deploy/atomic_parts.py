"""A check that an apply finds on the server what it sends, in the parts that are compared or replaced as a whole. Pure.

What the server fills in elsewhere is merged and changes nothing. In these parts it is a difference: each apply would
write them again, and a server-side one would conflict with whoever wrote the filled-in form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.deploy.defaults import filled_in
from tests.deploy.manifests import title
from tests.deploy.rendering import Manifest

# Paths in the schema; ``*`` is each element of a list. Deployment.strategy is merged with the keys retained that are
# sent; the others are marked as atomic, and quantities are rewritten in their canonical form.
_POD = "spec.template.spec"
_OF_PODS = [
    *(f"{_POD}.{kind}.*.env.*.valueFrom.fieldRef" for kind in ("containers", "initContainers")),
    *(f"{_POD}.{kind}.*.resources" for kind in ("containers", "initContainers")),
    *(f"{_POD}.{kind}.*.securityContext.capabilities" for kind in ("containers", "initContainers")),
    f"{_POD}.volumes.*.projected.sources",
    f"{_POD}.volumes.*.emptyDir",
    f"{_POD}.affinity",
]
_ATOMIC = {
    "Deployment": ["spec.strategy", *_OF_PODS],
    "StatefulSet": ["spec.volumeClaimTemplates", *_OF_PODS],
    "NetworkPolicy": ["spec.ingress", "spec.egress", "spec.podSelector"],
    "HorizontalPodAutoscaler": ["spec.metrics", "spec.behavior.scaleDown.policies"],
    "RoleBinding": ["roleRef", "subjects"],
    "PersistentVolumeClaim": ["spec.resources"],
}


def atomic_parts_are_complete(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        kept = filled_in(manifest)
        for path in _ATOMIC.get(manifest["kind"], ()):
            for place, sent in _parts(manifest, path.split(".")):
                if dict(_parts(kept, path.split(".")))[place] != sent:
                    yield f"{title(manifest)}: {'.'.join(place)} lacks what the server fills in"


def _parts(node: Any, path: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the parts under a path, with the place of each; nothing where a key is missing."""
    if not path:
        yield (), node
    elif path[0] == "*":
        for at, each in enumerate(node):
            yield from (((str(at), *place), part) for place, part in _parts(each, path[1:]))
    elif path[0] in node:
        yield from (((path[0], *place), part) for place, part in _parts(node[path[0]], path[1:]))
