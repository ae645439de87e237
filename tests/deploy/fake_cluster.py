"""A stand-in for Kubernetes' API on localhost, for the real kubectl and for our own client of it.

It stores what it is sent, fills in defaults (:mod:`tests.deploy.defaults`) and notes each request. Nothing runs: every
workload is at once as it should be. What it does not know is refused, so that a command cannot pass by accident.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.defaults import filled_in
from tests.deploy.kinds import KINDS, Kind, discovery
from tests.deploy.patching import json_patched, merged

_STATUS = {400: "BadRequest", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}
_WITH_STATUS = {"Deployment", "StatefulSet", "Pod", "Certificate"}
_ATTACHED = {"exec", "portforward"}  # connections to a pod: asked for, and refused
Object = dict[str, Any]


class Refused(Exception):
    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code, self.reason = code, reason or _STATUS[code]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Any = None
    kind_of_patch: str = ""

    @property
    def writes(self) -> bool:
        return self.method != "GET"


@dataclass(frozen=True)
class Place:
    """What a path names: a kind, and within it a namespace, a name and a part of the object."""

    kind: Kind
    namespace: str
    name: str = ""
    part: str = ""


@dataclass
class FakeCluster:
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    versions: int = 0
    address: str = ""

    def get(self, kind: str, name: str, namespace: str = "labelloop") -> Object:
        return self.objects[(kind, namespace, name)]

    def put(self, manifest: Mapping[str, Any], *, dry: bool = False) -> Object:
        """Store an object as the server would: with defaults, a version, and the status of a workload that runs.

        ``dry`` returns it only.
        """
        kind = next(each for each in KINDS if each.name == manifest["kind"])
        new = filled_in(manifest)
        place = (kind.name, manifest["metadata"].get("namespace", "") if kind.namespaced else "", _name(manifest))
        old = self.objects.get(place, {})
        if dry or _content(old) == _content(new):
            return {**old, **new, "metadata": {**old.get("metadata", {}), **new["metadata"]}} if dry else old
        self.versions += 1
        kept = {"uid": f"uid-{_name(manifest)}", "resourceVersion": str(self.versions), "generation": self.versions}
        new["metadata"] = {**new["metadata"], **kept}
        if kind.name in _WITH_STATUS:
            new["status"] = _running(new)
        self.objects[place] = new
        return new

    def answer(self, request: Request) -> Any:
        if (found := discovery(request.path)) is not None:
            return found
        place = place_of(request.path)
        with self.lock:
            if request.writes or place.part:
                self.requests.append(request)
            if place.part in _ATTACHED:
                raise Refused(400, f"{place.part} is not served here")
            return self._list(place, request) if not place.name else self._object(place, request)

    def _list(self, place: Place, request: Request) -> Any:
        if request.method == "POST":
            if (place.kind.name, place.namespace, _name(request.body)) in self.objects:
                raise Refused(409, f"{_name(request.body)} already exists")
            return self.put({**request.body, "metadata": {"namespace": place.namespace, **request.body["metadata"]}})
        found = [each for key, each in self.objects.items() if key[:2] == (place.kind.name, place.namespace)]
        found = [each for each in found if _asked_for(each, request.query)]
        if request.method == "DELETE":
            for each in found:
                del self.objects[(place.kind.name, place.namespace, _name(each))]
        return {"kind": f"{place.kind.name}List", "apiVersion": place.kind.version, "metadata": {}, "items": found}

    def _scale(self, workload: Object, request: Request) -> Object:
        if request.method != "GET":
            replicas = request.body["spec"]["replicas"]
            workload = self.put({**workload, "spec": {**workload["spec"], "replicas": replicas}})
        return _scale_of(workload)

    def _object(self, place: Place, request: Request) -> Any:
        key = (place.kind.name, place.namespace, place.name)
        if request.method == "PATCH" and "apply-patch" in request.kind_of_patch:
            return self.put(request.body, dry="dryRun" in request.query)
        if key not in self.objects:
            raise Refused(404, f"{place.kind.plural} {place.name!r} not found")
        old = self.objects[key]
        if place.part == "scale":
            return self._scale(old, request)
        if request.method == "PATCH":
            return self.put(_patched(old, request), dry="dryRun" in request.query)
        if request.method == "PUT":
            if request.body["metadata"].get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
                raise Refused(409, "the object has been modified", "Conflict")
            return self.put(request.body)
        if request.method == "DELETE":
            return self.objects.pop(key)
        return deepcopy(old)


def _scale_of(workload: Object) -> Object:
    replicas = workload["spec"]["replicas"]
    about = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": workload["metadata"]}
    return {**about, "spec": {"replicas": replicas}, "status": {"replicas": replicas}}


def place_of(path: str) -> Place:
    parts = path.strip("/").split("/")
    version, rest = ("v1", parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    kind = next((k for k in KINDS if (k.version, k.plural) == (version, (rest or [""])[0])), None)
    if kind is None:
        raise Refused(404, f"the server could not find {path}")
    return Place(kind, namespace, *rest[1:3])


def _patched(old: Object, request: Request) -> Object:
    if "json-patch" in request.kind_of_patch:
        try:
            return json_patched(old, request.body)
        except KeyError as error:
            raise Refused(422, f"the patch names {error}, which is not there") from error
    return dict(merged(old, request.body, strategic="strategic" in request.kind_of_patch))


def _asked_for(each: Object, query: Mapping[str, list[str]]) -> bool:
    labels = dict(part.split("=") for part in query.get("labelSelector", [""])[0].split(",") if part)
    names = dict(part.split("=") for part in query.get("fieldSelector", [""])[0].split(",") if part)
    return labels.items() <= each["metadata"].get("labels", {}).items() and names.get("metadata.name") in (
        None,
        _name(each),
    )


def _name(manifest: Mapping[str, Any]) -> str:
    return str(manifest["metadata"]["name"])


def _content(each: Mapping[str, Any]) -> Object:
    """What a write may change: all but what the server keeps of its own."""
    own = ("uid", "resourceVersion", "generation")
    metadata = {key: value for key, value in each.get("metadata", {}).items() if key not in own}
    return {**{key: value for key, value in each.items() if key != "status"}, "metadata": metadata}


def _running(workload: Object) -> Object:
    """The status of a workload that is as it should be, a pod that runs, or a certificate that was issued."""
    count = workload["spec"].get("replicas", 1)
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "currentReplicas")
    return {
        **dict.fromkeys(counts, count),
        "phase": "Running",
        "observedGeneration": workload["metadata"]["generation"],
        "conditions": [{"type": "Available", "status": "True"}, {"type": "Ready", "status": "True"}],
    }
