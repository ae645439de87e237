"""Patches of Kubernetes objects, as far as the commands of the README use them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

DIRECTIVES = ("$retainKeys", "$setElementOrder/")


def merged(old: Any, patch: Any, *, strategic: bool) -> Any:
    """Return ``old`` with a merge patch (RFC 7386) applied; a strategic one merges lists of named objects by name."""
    if isinstance(patch, Mapping):
        result = dict(old) if isinstance(old, Mapping) else {}
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            elif not (strategic and key.startswith(DIRECTIVES)):
                result[key] = merged(result.get(key), value, strategic=strategic)
        return result
    if strategic and _named(old) and _named(patch):
        changes = {each["name"]: each for each in patch}
        names = [each["name"] for each in old] + [name for name in changes if name not in {e["name"] for e in old}]
        there = {each["name"]: each for each in old}
        return [merged(there.get(name), changes.get(name, there.get(name)), strategic=True) for name in names]
    return deepcopy(patch)


def _named(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, Mapping) and "name" in e for e in value)


def json_patched(old: Mapping[str, Any], operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Apply a JSON patch (RFC 6902) to an object without lists; KeyError if a path is not there, as the server says."""
    new = deepcopy(dict(old))
    for each in operations:
        value = each.get("value")
        if each["op"] == "test" and _value(new, each["path"]) != value:
            raise KeyError(each["path"])
        if each["op"] == "move":
            value = _remove(new, each["from"])
        if each["op"] in ("remove", "replace"):
            _remove(new, each["path"])
        if each["op"] in ("add", "replace", "move"):
            parent, key = _parent(new, each["path"])
            parent[key] = value
    return new


def _parent(node: Any, path: str) -> tuple[dict[str, Any], str]:
    *way, last = (part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:])
    for key in way:
        node = node[key]
    return node, last


def _value(node: Any, path: str) -> Any:
    parent, key = _parent(node, path)
    return parent[key]


def _remove(node: Any, path: str) -> Any:
    parent, key = _parent(node, path)
    return parent.pop(key)
