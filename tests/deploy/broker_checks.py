"""Checks that the broker's settings, its pods and its clients are consistent. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from tests.deploy.manifests import Workload, bytes_of, environment, of_kind, workloads
from tests.deploy.rendering import Manifest

_INCLUDE = re.compile(r"^\s*include\s+\./(\S+)", re.MULTILINE)
_LAME_DUCK = re.compile(r"^lame_duck_(?:grace_period|duration): (\d+)s$", re.MULTILINE)
HOST = re.compile(r"//([^/:,\]]+)")


def broker(manifests: Sequence[Manifest]) -> Workload:
    [found] = [workload for workload in workloads(manifests) if workload.name == "nats"]
    return found


def settings_of(manifests: Sequence[Manifest]) -> Mapping[str, str]:
    """Return the files of the ConfigMap that the broker mounts, by name; empty if there is none."""
    names = [volume["configMap"]["name"] for volume in broker(manifests).pod["volumes"] if "configMap" in volume]
    maps = of_kind(manifests, "ConfigMap")
    return next((each["data"] for each in maps if each["metadata"]["name"] in names), {})


def broker_reads_all_of_its_settings(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Check that its folder is the whole ConfigMap, since files include each other."""
    pod, container = broker(manifests).pod, broker(manifests).main
    config = PurePosixPath(container["args"][container["args"].index("--config") + 1])
    mounts = [each for each in container["volumeMounts"] if each["mountPath"] == str(config.parent)]
    volumes = {volume["name"]: volume.get("configMap", {}) for volume in pod["volumes"]}
    if not any(volumes.get(each["name"], {}).keys() == {"name"} and "subPath" not in each for each in mounts):
        yield f"{config.parent} is not the whole ConfigMap"
    files = settings_of(manifests)
    for name in {config.name, *(name for text in files.values() for name in _INCLUDE.findall(text))} - files.keys():
        yield f"the broker's settings lack {name}"


def broker_leaves_in_time(manifests: Sequence[Manifest]) -> Iterator[str]:
    pod, container = broker(manifests).pod, broker(manifests).main
    pid_file = container["args"][container["args"].index("--pid") + 1]
    asked = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    if asked != ["nats-server", "--signal", f"ldm={pid_file}"]:
        yield "the broker is not told to hand over before it goes"
    takes_s = [int(seconds) for text in settings_of(manifests).values() for seconds in _LAME_DUCK.findall(text)]
    if len(takes_s) != 2 or sum(takes_s) >= pod["terminationGracePeriodSeconds"]:
        yield f"the broker takes {takes_s} s to leave and is killed before"


def broker_knows_its_memory(manifests: Sequence[Manifest]) -> Iterator[str]:
    container = broker(manifests).main
    said = environment(broker(manifests), manifests).get("GOMEMLIMIT", "")
    limit = bytes_of(container["resources"]["limits"]["memory"])
    if not said or not 0.7 * limit <= bytes_of(said.removesuffix("B")) <= 0.9 * limit:
        yield f"GOMEMLIMIT is {said or 'not set'}, which does not fit a limit of {limit} bytes"


def nodes_are_enough(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Check the nodes against the routes and the copies that services request."""
    nodes = broker(manifests).replicas or 0
    routes = HOST.findall(environment(broker(manifests), manifests)["NATS_ROUTES"])
    wanted = [f"nats-{number}.nats-nodes" for number in range(nodes)] if nodes > 1 else []
    if routes != wanted:
        yield f"routes lead to {routes}, not to {wanted}"
    for workload in workloads(manifests):
        if workload.is_ours and int(environment(workload, manifests)["LABELLOOP_REPLICAS"]) > nodes:
            yield f"{workload.name}: wants more copies than there are nodes"
