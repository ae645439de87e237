"""Checks beyond schemas: manifests fit together, and fit the services. Each check yields the faults found. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from labelloop.oracle.v1 import oracle_pb2
from labelloop.rpc.health import LIVE
from labelloop.scorer.v1 import scorer_pb2
from labelloop.settings import ServiceSettings
from labelloop.trainer.v1 import trainer_pb2
from labelloop_cli.operations.keys import USERS
from pydantic_settings import BaseSettings

from oracle_svc.config import OracleSettings
from oracle_svc.integrations.label_studio.integration import LabelStudioSettings
from oracle_svc.web.settings import WebSettings
from scorer_svc.config import ScorerSettings
from tests.deploy.atomic_parts import atomic_parts_are_complete
from tests.deploy.broker_checks import (
    broker_knows_its_memory,
    broker_leaves_in_time,
    broker_reads_all_of_its_settings,
    nodes_are_enough,
)
from tests.deploy.certificate_checks import (
    both_authorities_are_trusted,
    certificates_are_for_the_names_that_are_called,
    renewed_certificates_reach_the_broker,
)
from tests.deploy.lifecycle_checks import (
    drains_end_in_time,
    labels_outlive_the_overlay,
    stateless_pods_leave_dead_nodes_soon,
    upgrades_need_no_room,
)
from tests.deploy.manifests import Workload, bytes_of, chosen, environment, of_kind, references, title, workloads
from tests.deploy.pod_security import namespaces_restrict_pods, no_links_in_the_environment, pods_are_restricted
from tests.deploy.rendering import KUBERNETES, Manifest
from tests.deploy.token_checks import the_keys_container_alone_holds_a_token
from trainer_svc.config import TrainerSettings

Check: TypeAlias = Callable[[Sequence[Manifest]], Iterator[str]]

_SETTINGS: dict[str, type[ServiceSettings]] = {
    "trainer": TrainerSettings,
    "scorer": ScorerSettings,
    "oracle": OracleSettings,
}
_MORE_OF_ORACLE: Sequence[type[BaseSettings]] = (WebSettings, LabelStudioSettings)
_FULL_NAMES = {
    name: file.DESCRIPTOR.services_by_name[f"{name.capitalize()}Service"].full_name
    for name, file in (("trainer", trainer_pb2), ("scorer", scorer_pb2), ("oracle", oracle_pb2))
}
_OF_THE_CLUSTER = "kube-root-ca.crt"  # in each namespace: the authority of its API
_MADE_BY_OPERATORS = {"s3", "label-studio", "page"}
_PINNED = re.compile(r".+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


def selectors_match(manifests: Sequence[Manifest]) -> Iterator[str]:
    labels = [workload.labels for workload in workloads(manifests)]
    for manifest in of_kind(manifests, "Service", "PodDisruptionBudget"):
        if not any(chosen(manifest["spec"]["selector"], each) for each in labels):
            yield f"{title(manifest)} chooses no pod"
    for workload in workloads(manifests):
        selector = workload.manifest["spec"].get("selector")
        if selector and not chosen(selector, workload.labels):
            yield f"{title(workload.manifest)} does not choose its own pods"
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    for manifest in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = manifest["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in names:
            yield f"{title(manifest)} scales nothing"


def ports_match(manifests: Sequence[Manifest]) -> Iterator[str]:
    for service in of_kind(manifests, "Service"):
        for workload in workloads(manifests):
            if chosen(service["spec"]["selector"], workload.labels):
                ports = {
                    port["name"]: port["containerPort"]
                    for each in workload.containers
                    for port in each.get("ports", ())
                }
                for port in service["spec"]["ports"]:
                    if ports.get(port["targetPort"]) != port["port"]:
                        yield f"{title(service)}: port {port['name']} does not lead to {workload.name}'s"
    for workload in workloads(manifests):
        said = environment(workload, manifests)
        for container in workload.containers:
            ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
            for setting, name in (("LABELLOOP_HEALTH_PORT", "health"), ("LABELLOOP_METRICS_PORT", "metrics")):
                if workload.is_ours and str(ports.get(name)) != said.get(setting):
                    yield f"{workload.name}: port {name} is not {setting}"
            if workload.is_ours and ports.get("grpc") != _SETTINGS[workload.name].model_fields["port"].default:
                yield f"{workload.name}: port grpc is not where it listens"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for kind in ("httpGet", "grpc"):
                    port = container.get(probe, {}).get(kind, {}).get("port")
                    if port is not None and port not in {*ports, *ports.values()}:
                        yield f"{workload.name}: {probe} asks port {port}, which is not there"


def probes_name_served_services(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        for container in workload.containers if workload.is_ours else ():
            probes = ("startupProbe", "livenessProbe", "readinessProbe")
            started, live, ready = (container.get(probe, {}).get("grpc", {}).get("service") for probe in probes)
            if {started, live} != {LIVE}:
                yield f"{workload.name}: startup asks for {started!r}, liveness for {live!r}"
            if ready != _FULL_NAMES[workload.name]:
                yield f"{workload.name}: readiness asks for {ready!r}"


def budgets_leave_room(manifests: Sequence[Manifest]) -> Iterator[str]:
    least = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"]
        for each in of_kind(manifests, "HorizontalPodAutoscaler")
    }
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        for workload in workloads(manifests):
            if chosen(budget["spec"]["selector"], workload.labels):
                replicas = workload.replicas or least.get(workload.name, 1)
                if budget["spec"]["minAvailable"] >= replicas:
                    yield f"{title(budget)} lets no node be drained"


def autoscalers_have_replicas_to_themselves(manifests: Sequence[Manifest]) -> Iterator[str]:
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(manifests, "HorizontalPodAutoscaler")}
    for workload in workloads(manifests):
        if workload.name in scaled and workload.replicas is not None:
            yield f"{workload.name}: each apply would undo the autoscaler"


def resources_are_set(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        for container in workload.containers:
            resources = container.get("resources", {})
            if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
                yield f"{workload.name}: requests are not set"
            if "memory" not in resources.get("limits", {}):
                yield f"{workload.name}: memory has no limit"


def images_are_pinned(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        for container in workload.containers:
            if not _PINNED.fullmatch(container["image"]):
                yield f"{workload.name}: image {container['image']} is not pinned"


def settings_exist(manifests: Sequence[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        if workload.is_ours:
            kinds = (_SETTINGS[workload.name], *(_MORE_OF_ORACLE if workload.name == "oracle" else ()))
            known = {
                field.validation_alias or f"{kind.model_config['env_prefix']}{name}".upper()
                for kind in kinds
                for name, field in kind.model_fields.items()
            }
            for name in environment(workload, manifests):
                if name.startswith("LABELLOOP_") and name not in known:
                    yield f"{workload.name}: there is no setting {name}"


def secrets_come_from_elsewhere(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in of_kind(manifests, "Secret"):
        yield f"{title(manifest)} stands in a manifest"
    made = {f"nkey-{user}" for user in USERS if any(_makes_keys(each) for each in workloads(manifests))}
    made |= {each["spec"]["secretName"] for each in of_kind(manifests, "Certificate")} | _MADE_BY_OPERATORS
    optional = [secret for secret in references(manifests, "secret") if secret.get("optional")]
    made |= {secret.get("secretName") or secret["name"] for secret in optional}
    for workload in workloads(manifests):
        asked = {ref["name"] for key in ("secretKeyRef", "secretRef") for ref in references(workload.pod, key)}
        asked |= {source["name"] for source in references(workload.pod, "secret") if "name" in source}
        for name in (asked | set(references(workload.pod, "secretName"))) - made:
            yield f"{workload.name}: nobody makes the Secret {name}"


def _makes_keys(workload: Workload) -> bool:
    return any(each.get("args") == ["keys", "cluster"] for each in workload.pod.get("initContainers", ()))


def config_maps_exist(manifests: Sequence[Manifest]) -> Iterator[str]:
    there = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "ConfigMap")} | _MADE_BY_OPERATORS
    there |= {_OF_THE_CLUSTER}
    for workload in workloads(manifests):
        keys = ("configMapRef", "configMapKeyRef", "configMap")
        for name in {ref["name"] for key in keys for ref in references(workload.pod, key)} - there:
            yield f"{workload.name}: there is no ConfigMap {name}"


def volumes_are_there(manifests: Sequence[Manifest]) -> Iterator[str]:
    claims = {folder.name for folder in (KUBERNETES / "claims").iterdir()}
    for workload in workloads(manifests):
        mounted = {mount["name"] for each in workload.containers for mount in each.get("volumeMounts", ())}
        for name in mounted ^ workload.volumes:
            yield f"{workload.name}: volume {name} is mounted and not there, or there and not mounted"
        for name in set(references(workload.pod, "claimName")) - claims:
            yield f"{workload.name}: nobody claims {name}"


def caches_fit_their_volumes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A pod whose volume overflows is evicted."""
    for workload in workloads(manifests):
        sizes = {volume["name"]: volume.get("emptyDir", {}).get("sizeLimit") for volume in workload.pod["volumes"]}
        said = environment(workload, manifests).get("LABELLOOP_CACHE_GB")
        if said and float(said) * 1e9 >= bytes_of(sizes["cache"]):
            yield f"{workload.name}: {said} GB do not fit {sizes['cache']}"


CHECKS: tuple[Check, ...] = (
    selectors_match,
    ports_match,
    probes_name_served_services,
    budgets_leave_room,
    autoscalers_have_replicas_to_themselves,
    resources_are_set,
    images_are_pinned,
    settings_exist,
    namespaces_restrict_pods,
    pods_are_restricted,
    no_links_in_the_environment,
    secrets_come_from_elsewhere,
    config_maps_exist,
    volumes_are_there,
    caches_fit_their_volumes,
    drains_end_in_time,
    stateless_pods_leave_dead_nodes_soon,
    the_keys_container_alone_holds_a_token,
    upgrades_need_no_room,
    labels_outlive_the_overlay,
    atomic_parts_are_complete,
    broker_reads_all_of_its_settings,
    broker_leaves_in_time,
    broker_knows_its_memory,
    nodes_are_enough,
    certificates_are_for_the_names_that_are_called,
    renewed_certificates_reach_the_broker,
    both_authorities_are_trusted,
)
