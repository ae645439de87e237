"""Kubernetes overlays: valid for each supported version, consistent, and their checks find faults."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate
import pytest
import yaml
from labelloop_cli.__main__ import app
from typer.main import get_command

from tests.deploy import broker_checks, certificate_checks, checks, lifecycle_checks, pod_security, token_checks
from tests.deploy.atomic_parts import atomic_parts_are_complete
from tests.deploy.checks import CHECKS, Check
from tests.deploy.manifests import chosen, of_kind, workloads
from tests.deploy.policies import Call, admitted
from tests.deploy.readme import README, blocks
from tests.deploy.rendering import KUBERNETES, Manifest, render

OVERLAYS = ("local", "production")
OTHER_COMPONENTS = ("s3", "label-studio", "page", "client", "load-test")
SUPPORTED = ("1.32", kubernetes_validate.latest_version())
# Kinds of cert-manager and the Prometheus operator, which Kubernetes' schemas lack, and the fields that they need.
OTHERS = {
    ("cert-manager.io/v1", "Issuer"): set[str](),
    ("cert-manager.io/v1", "Certificate"): {"secretName", "issuerRef", "duration", "renewBefore"},
    ("monitoring.coreos.com/v1", "PodMonitor"): {"selector", "podMetricsEndpoints"},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
}


@cache
def rendered(overlay: str) -> Sequence[Manifest]:
    return render(KUBERNETES / "overlays" / overlay)


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Sequence[Manifest]:
    return rendered(request.param)


def from_(folder: Path) -> str:
    """The path of the manifests relative to ``folder``: kustomize reads relative paths only."""
    return os.path.relpath(KUBERNETES, folder.resolve())


@pytest.fixture
def with_everything(tmp_path: Path) -> Sequence[Manifest]:
    """The production overlay with every component that it leaves out."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "labelloop",
        "resources": [f"{from_(tmp_path)}/overlays/production"],
        "components": [f"{from_(tmp_path)}/components/{name}" for name in OTHER_COMPONENTS],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return render(tmp_path)


@pytest.mark.parametrize("version", SUPPORTED)
def test_manifests_are_valid(overlay: Sequence[Manifest], version: str) -> None:
    for manifest in overlay:
        if (manifest["apiVersion"], manifest["kind"]) not in OTHERS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_not_valid() -> None:
    broken = deepcopy(of_kind(rendered("local"), "Deployment")[0])
    broken["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, SUPPORTED[-1], strict=True)


def test_custom_resources_have_the_fields_that_they_need(overlay: Sequence[Manifest]) -> None:
    for manifest in overlay:
        needed = OTHERS.get((manifest["apiVersion"], manifest["kind"]), set())
        assert needed <= manifest.get("spec", {}).keys()


def test_all_but_cluster_wide_resources_are_in_the_namespace(overlay: Sequence[Manifest]) -> None:
    assert {manifest["kind"] for manifest in overlay if manifest["metadata"].get("namespace") != "labelloop"} <= {
        "PriorityClass",
    }


@pytest.mark.parametrize("folder", ["namespace", "claims/label-studio", "claims/pools"])
def test_what_is_apart_from_the_overlays_is_valid(folder: str) -> None:
    for manifest in render(KUBERNETES / folder):
        kubernetes_validate.validate(manifest, SUPPORTED[0], strict=True)
        assert "labelloop" in (manifest["metadata"]["name"], manifest["metadata"].get("namespace"))


def test_the_namespace_restricts_its_pods() -> None:
    [namespace] = render(KUBERNETES / "namespace")
    assert list(pod_security.namespaces_restrict_pods([namespace])) == []


def test_the_overlay_of_the_readme_is_valid(tmp_path: Path) -> None:
    [written] = [block.text for block in blocks("yaml") if block.heading == "Install"]
    content = written.replace("[../production", f"[{from_(tmp_path)}/overlays/production")
    (tmp_path / "kustomization.yaml").write_text(content.replace("../../components", f"{from_(tmp_path)}/components"))
    manifests = render(tmp_path)
    for manifest in of_kind(manifests, "Deployment"):
        kubernetes_validate.validate(manifest, SUPPORTED[-1], strict=True)
    assert [fault for check in CHECKS for fault in check(manifests)] == []


def test_the_readme_names_the_oldest_kubernetes_and_every_component() -> None:
    readme = README.read_text()
    assert f"Kubernetes {SUPPORTED[0]} or newer" in readme
    for component in (KUBERNETES / "components").iterdir():
        assert f"`{component.name}`" in readme


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_overlays_pass_every_check(overlay: Sequence[Manifest], check: Check) -> None:
    assert list(check(overlay)) == []


def test_production_with_all_other_components_passes_every_check(with_everything: Sequence[Manifest]) -> None:
    assert [fault for check in CHECKS for fault in check(with_everything)] == []
    for manifest in with_everything:
        if (manifest["apiVersion"], manifest["kind"]) not in OTHERS:
            kubernetes_validate.validate(manifest, SUPPORTED[-1], strict=True)


def named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    return next(each for each in of_kind(manifests, kind) if each["metadata"]["name"].startswith(name))


Damage: TypeAlias = Callable[[list[Manifest]], object]


def put(kind: str, name: str, path: str, value: object) -> Damage:
    """Set the value at a path of keys (``;`` is a dot in a key), numbers or names in lists; None removes it."""

    def damage(manifests: list[Manifest]) -> None:
        node: Any = named(manifests, kind, name)
        *way, last = path.split(".")
        for key in way:
            node = node[place(node, key)]
        if value is None:
            del node[place(node, last)]
        else:
            node[place(node, last)] = value

    return damage


def place(node: Any, key: str) -> str | int:
    """Return the key in a mapping, or the index in a list."""
    if not isinstance(node, list):
        return key.replace(";", ".")
    return int(key) if key.isdigit() else next(at for at, each in enumerate(node) if each["name"] == key)


def put_pod(path: str, value: object) -> Damage:
    return put("Deployment", "scorer", f"spec.template.spec.{path}", value)


def put_container(path: str, value: object) -> Damage:
    return put_pod(f"containers.0.{path}", value)


def remove(kind: str, name: str) -> Damage:
    return lambda manifests: manifests.remove(named(manifests, kind, name))


def put_broker(path: str, value: object) -> Damage:
    return put("StatefulSet", "nats", f"spec.template.spec.{path}", value)


def rule_of(name: str, way: str, **changes: object) -> Damage:
    """Change the first rule of a policy; None removes a key."""

    def damage(manifests: list[Manifest]) -> None:
        rule = named(manifests, "NetworkPolicy", name)["spec"][way][0]
        rule.update(changes)
        for key in [key for key, value in rule.items() if value is None]:
            del rule[key]

    return damage


RENEWED = certificate_checks.renewed_certificates_reach_the_broker
AUTHORITIES = certificate_checks.both_authorities_are_trusted
CERTIFIED = certificate_checks.certificates_are_for_the_names_that_are_called
TOKEN = token_checks.the_keys_container_alone_holds_a_token
RETENTION = "persistentVolumeClaimRetentionPolicy"
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "labelloop"}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}}
BROKEN: list[tuple[Check, Damage]] = [
    (checks.selectors_match, put("Service", "scorer", "spec.selector.tier", "hot")),
    (checks.selectors_match, put("PodDisruptionBudget", "nats", "spec.selector.matchLabels", {"app": "nats"})),
    (checks.selectors_match, put("HorizontalPodAutoscaler", "scorer", "spec.scaleTargetRef.name", "scorers")),
    (checks.ports_match, put("Service", "trainer", "spec.ports.0.targetPort", "http")),
    (checks.ports_match, put_container("ports.0.containerPort", 50051)),
    (checks.ports_match, put_container("readinessProbe.grpc.port", 50061)),
    (checks.ports_match, put("ConfigMap", "labelloop", "data.LABELLOOP_METRICS_PORT", "9465")),
    (checks.probes_name_served_services, put_container("readinessProbe.grpc.service", "labelloop.scorer.v1.Scorer")),
    (checks.probes_name_served_services, put_container("livenessProbe.grpc.service", "ready")),
    (checks.budgets_leave_room, put("PodDisruptionBudget", "scorer", "spec.minAvailable", 3)),
    (checks.autoscalers_have_replicas_to_themselves, put("Deployment", "scorer", "spec.replicas", 3)),
    (checks.resources_are_set, put_container("resources.requests.cpu", None)),
    (checks.resources_are_set, put_container("resources.limits", None)),
    (checks.probes_name_served_services, put_container("startupProbe", None)),
    (checks.images_are_pinned, put_container("image", "labelloop/scorer:latest")),
    (checks.images_are_pinned, put_container("image", "labelloop/scorer")),
    (checks.settings_exist, put_container("env.0.name", "LABELLOOP_CACHE_SIZE")),
    (pod_security.namespaces_restrict_pods, lambda manifests: manifests.append(NAMESPACE)),
    (pod_security.pods_are_restricted, put_container("securityContext.readOnlyRootFilesystem", None)),
    (pod_security.pods_are_restricted, put_container("securityContext.capabilities.add", ["NET_RAW"])),
    (pod_security.pods_are_restricted, put_container("securityContext.privileged", True)),
    (pod_security.pods_are_restricted, put_container("ports.0.hostPort", 50052)),
    (pod_security.pods_are_restricted, put_pod("securityContext.seccompProfile", None)),
    (pod_security.pods_are_restricted, put_pod("securityContext.runAsUser", 0)),
    (pod_security.pods_are_restricted, put_pod("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}])),
    (pod_security.pods_are_restricted, put_pod("hostNetwork", True)),
    (pod_security.pods_are_restricted, put_pod("volumes.tmp", {"name": "tmp", "hostPath": {"path": "/"}})),
    (pod_security.pods_are_restricted, put_pod("volumes.tmp", {"name": "tmp", "emptyDir": {}})),
    (pod_security.no_links_in_the_environment, put_pod("enableServiceLinks", None)),
    (checks.secrets_come_from_elsewhere, lambda manifests: manifests.append(SECRET)),
    (checks.secrets_come_from_elsewhere, remove("Certificate", "scorer")),
    (checks.secrets_come_from_elsewhere, put_broker("initContainers.keys.args", ["keys", "nats"])),
    (checks.config_maps_exist, remove("ConfigMap", "nats-config")),
    (checks.volumes_are_there, put_pod("volumes.0", None)),
    (checks.caches_fit_their_volumes, put_container("env.LABELLOOP_CACHE_GB.value", "22")),
    (lifecycle_checks.drains_end_in_time, put_pod("terminationGracePeriodSeconds", 20)),
    (lifecycle_checks.stateless_pods_leave_dead_nodes_soon, put_pod("tolerations", [])),
    (lifecycle_checks.stateless_pods_leave_dead_nodes_soon, put_pod("tolerations.0.tolerationSeconds", 300)),
    (TOKEN, put_pod("automountServiceAccountToken", True)),
    (TOKEN, put_broker("containers.0.volumeMounts.config.name", "token")),
    (TOKEN, put("Role", "nats", "rules.0.verbs", ["create", "get"])),
    (TOKEN, put("Role", "nats", "rules.1.resourceNames", None)),
    (lifecycle_checks.upgrades_need_no_room, put("Deployment", "oracle", "spec.strategy.rollingUpdate.maxSurge", 1)),
    (
        lifecycle_checks.upgrades_need_no_room,
        put("Deployment", "scorer", "spec.strategy.rollingUpdate.maxUnavailable", 0),
    ),
    (lifecycle_checks.labels_outlive_the_overlay, lambda manifests: manifests.append(NAMESPACE)),
    (
        lifecycle_checks.labels_outlive_the_overlay,
        put("StatefulSet", "nats", f"spec.{RETENTION}.whenDeleted", "Delete"),
    ),
    (atomic_parts_are_complete, put("Deployment", "oracle", "spec.strategy.type", None)),
    (atomic_parts_are_complete, put("StatefulSet", "nats", "spec.volumeClaimTemplates.0.kind", None)),
    (
        atomic_parts_are_complete,
        put_broker("containers.0.env.NATS_NAME.valueFrom.fieldRef", {"fieldPath": "metadata.name"}),
    ),
    (atomic_parts_are_complete, put_container("resources.requests.cpu", 1)),
    (atomic_parts_are_complete, put_container("resources.requests.memory", "1024Mi")),
    (atomic_parts_are_complete, rule_of("scorer", "ingress", ports=[{"port": 50052}])),
    (
        broker_checks.broker_reads_all_of_its_settings,
        put_broker("containers.0.volumeMounts.config.subPath", "access.conf"),
    ),
    (broker_checks.broker_reads_all_of_its_settings, put_broker("containers.0.volumeMounts.config.mountPath", "/etc")),
    (broker_checks.broker_reads_all_of_its_settings, put_broker("volumes.config.configMap.items", [])),
    (broker_checks.broker_reads_all_of_its_settings, put("ConfigMap", "nats-config", "data.access;conf", None)),
    (broker_checks.broker_leaves_in_time, put_broker("terminationGracePeriodSeconds", 40)),
    (broker_checks.broker_leaves_in_time, put_broker("containers.0.lifecycle", None)),
    (broker_checks.broker_leaves_in_time, put_broker("containers.0.args.3", "/tmp/nats.pid")),
    (broker_checks.broker_knows_its_memory, put_broker("containers.0.resources.limits.memory", "2Gi")),
    (broker_checks.broker_knows_its_memory, put("ConfigMap", "nats-env", "data.GOMEMLIMIT", None)),
    (broker_checks.nodes_are_enough, put("StatefulSet", "nats", "spec.replicas", 5)),
    (broker_checks.nodes_are_enough, put("ConfigMap", "labelloop", "data.LABELLOOP_REPLICAS", "5")),
    (CERTIFIED, put("Certificate", "scorer", "spec.dnsNames", ["scorers"])),
    (CERTIFIED, put("Certificate", "nats", "spec.dnsNames", ["nats"])),
    (RENEWED, put("ConfigMap", "nats-env", "data.NATS_TLS_CA", "/secrets/renewed/ca.crt")),
    (RENEWED, put_broker("shareProcessNamespace", False)),
    (RENEWED, put_broker("initContainers.certificates.restartPolicy", None)),
    (RENEWED, put_broker("initContainers.certificates.args.5", "/tmp/nats.pid")),
    (RENEWED, put_broker("initContainers.certificates.volumeMounts.run.name", "tmp")),
    (RENEWED, put_broker("initContainers.certificates.args", ["keys", "nats"])),
    (AUTHORITIES, put_pod("volumes.tls.projected.sources.2.secret.optional", False)),
    (AUTHORITIES, put_pod("volumes.tls.projected.sources.1.secret.items", None)),
    (CERTIFIED, put_container("volumeMounts.tls.mountPath", "/secrets")),
]


@pytest.mark.parametrize(("check", "damage"), BROKEN, ids=lambda each: each.__name__ if each in CHECKS else "")
def test_a_check_finds_the_fault_that_it_is_for(check: Check, damage: Damage) -> None:
    manifests = deepcopy(list(rendered("production")))
    damage(manifests)
    assert list(check(manifests))


@pytest.mark.parametrize(("tls", "there", "code"), [("", False, 0), ("yes", False, 1), ("yes", True, 0)])
def test_the_client_starts_once_its_certificate_is_there(
    with_everything: Sequence[Manifest], tmp_path: Path, tls: str, there: bool, code: int
) -> None:
    client = named(with_everything, "Deployment", "client")["spec"]["template"]["spec"]["containers"][0]
    if there:
        (tmp_path / "tls.crt").touch()
    environment = {"PATH": os.environ["PATH"], "LABELLOOP_TLS_DIR": str(tmp_path) if tls else ""}
    asked = subprocess.run(client["startupProbe"]["exec"]["command"], env=environment, check=False)
    assert asked.returncode == code


def test_every_check_is_shown_to_fail() -> None:
    assert {check for check, _ in BROKEN} == set(CHECKS)


def test_every_workload_of_production_that_is_called_has_a_disruption_budget() -> None:
    kept = {each["metadata"]["name"] for each in of_kind(rendered("production"), "Deployment", "StatefulSet")}
    assert kept - {"streams"} == {
        each["metadata"]["name"] for each in of_kind(rendered("production"), "PodDisruptionBudget")
    }


def test_each_alert_links_to_a_section_of_the_readme() -> None:
    headings = {line.lower() for line in README.read_text().splitlines() if line[:4] == "### "}
    rules = [
        rule
        for manifest in of_kind(rendered("production"), "PrometheusRule")
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert rules
    for rule in rules:
        file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (file, f"### {anchor}" in headings) == ("deploy/README.md", True), rule["alert"]


SERVICES = ("trainer", "scorer", "oracle")
INSIDE = ("nats", "streams", *SERVICES, "label-studio", "client", "anybody")
OUTSIDE = ("prometheus", "dns", "stranger")
CALLS: set[Call] = {
    *(("trainer", called, "TCP", port) for called, port in (("nats", 4222), ("scorer", 50052), ("oracle", 50053))),
    *((caller, "nats", "TCP", 4222) for caller in ("scorer", "oracle", "streams")),
    *(("client", called, "TCP", port) for called, port in zip(SERVICES, (50051, 50052, 50053), strict=True)),
    ("nats", "nats", "TCP", 6222),
    *(("prometheus", called, "TCP", 9464) for called in ("nats", *SERVICES)),
    *((caller, "dns", protocol, 53) for caller in INSIDE for protocol in ("TCP", "UDP")),
    *(("nats", somewhere, "TCP", port) for somewhere in OUTSIDE for port in (443, 6443)),  # the API, at any address
}
CALLS_OF_OTHER_COMPONENTS: set[Call] = {
    *((caller, somewhere, "TCP", 443) for caller in SERVICES for somewhere in OUTSIDE),  # object storage
    *((caller, called, "TCP", 8080) for caller in OUTSIDE for called in ("label-studio", "oracle")),  # by ingress
    ("oracle", "label-studio", "TCP", 8080),
}


def calls(manifests: Sequence[Manifest]) -> set[Call]:
    return {call for call in admitted(manifests) if not {call[0], call[1]} <= set(OUTSIDE)}


def test_policies_admit_exactly_the_calls_of_the_diagram(with_everything: Sequence[Manifest]) -> None:
    assert calls(rendered("production")) == CALLS
    assert calls(with_everything) == CALLS | CALLS_OF_OTHER_COMPONENTS


def test_the_load_test_may_call_what_a_client_may(with_everything: Sequence[Manifest]) -> None:
    [job] = [each for each in workloads(with_everything) if each.name == "load-test"]
    assert chosen(named(with_everything, "NetworkPolicy", "client")["spec"]["podSelector"], job.labels)
    assert not chosen(named(with_everything, "Service", "scorer")["spec"]["selector"], job.labels)


def test_the_load_test_runs_a_command_that_there_is(with_everything: Sequence[Manifest]) -> None:
    [job] = [each for each in workloads(with_everything) if each.name == "load-test"]
    [container] = job.containers
    command, *options = container["args"]
    commands: Any = get_command(app)
    context = commands.commands[command].make_context(command, options)
    longest_s = 2 * context.params["seconds"]
    assert longest_s < job.manifest["spec"]["activeDeadlineSeconds"]


def test_the_streams_are_made_by_a_command_that_there_is(overlay: Sequence[Manifest]) -> None:
    [streams] = [each for each in workloads(overlay) if each.name == "streams"]
    [container] = streams.containers
    group, command, *options = container["args"]
    commands: Any = get_command(app)
    commands.commands[group].commands[command].make_context(command, options)


@pytest.mark.parametrize(
    ("damage", "call"),
    [
        (remove("NetworkPolicy", "default-deny"), ("stranger", "anybody", "TCP", 8080)),
        (rule_of("scorer", "ingress", **{"from": None}), ("stranger", "scorer", "TCP", 50052)),
        (rule_of("scorer", "ingress", **{"from": []}), ("stranger", "scorer", "TCP", 50052)),
        (
            rule_of("scorer", "ingress", **{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
            ("dns", "scorer", "TCP", 50052),
        ),
        (rule_of("metrics", "ingress", ports=[{"port": 22}]), ("prometheus", "trainer", "TCP", 22)),
        (rule_of("metrics", "ingress", ports=[{"port": 9000, "endPort": 9999}]), ("prometheus", "oracle", "TCP", 9999)),
    ],
    ids=["no-default", "from-anywhere", "from-an-empty-list", "from-addresses", "a-port-more", "a-range"],
)
def test_a_missing_or_too_wide_policy_admits_another_call(damage: Damage, call: Call) -> None:
    manifests = deepcopy(list(rendered("production")))
    damage(manifests)
    assert call in calls(manifests) - CALLS


def test_a_too_narrow_policy_blocks_a_needed_call() -> None:
    manifests = deepcopy(list(rendered("production")))
    rule_of("names", "egress", ports=[{"protocol": "TCP", "port": 53}])(manifests)
    assert CALLS - calls(manifests) == {(caller, "dns", "UDP", 53) for caller in INSIDE}


def test_without_policies_more_calls_are_admitted() -> None:
    assert calls(rendered("local")) > CALLS
