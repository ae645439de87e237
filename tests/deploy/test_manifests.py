"""The overlays render, are sound for each Kubernetes that is supported, and fit together; broken ones are found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate
import pytest
import yaml

from tests.deploy import checks
from tests.deploy.checks import CHECKS, Check
from tests.deploy.manifests import of_kind
from tests.deploy.policies import admitted
from tests.deploy.rendering import KUBERNETES, Manifest, render

OVERLAYS = ("local", "production")
SUPPORTED = ("1.32", kubernetes_validate.latest_version())
# Kinds that Kubernetes' own schemas do not know, of cert-manager and the Prometheus operator, and what they must say.
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


@pytest.fixture
def with_everything(tmp_path: Path) -> Sequence[Manifest]:
    """Production and every component that it leaves out. Kustomize reads relative paths only."""
    extra = [f"{'../' * len(tmp_path.parents)}{KUBERNETES}/components/{name}" for name in ("s3", "label-studio")]
    extra = [path.replace("//", "/") for path in extra]
    base = f"{'../' * len(tmp_path.parents)}{KUBERNETES}/overlays/production".replace("//", "/")
    content = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "labelloop"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content | {"resources": [base], "components": extra}))
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


def test_kinds_that_kubernetes_does_not_know_say_what_they_must(overlay: Sequence[Manifest]) -> None:
    for manifest in overlay:
        needed = OTHERS.get((manifest["apiVersion"], manifest["kind"]), set())
        assert needed <= manifest.get("spec", {}).keys()


def test_all_but_cluster_wide_kinds_are_in_the_namespace(overlay: Sequence[Manifest]) -> None:
    assert {manifest["kind"] for manifest in overlay if manifest["metadata"].get("namespace") != "labelloop"} <= {
        "Namespace",
        "PriorityClass",
    }


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_everything_fits(overlay: Sequence[Manifest], check: Check) -> None:
    assert list(check(overlay)) == []


def test_everything_fits_with_the_other_components_too(with_everything: Sequence[Manifest]) -> None:
    assert [fault for check in CHECKS for fault in check(with_everything)] == []
    for manifest in with_everything:
        if (manifest["apiVersion"], manifest["kind"]) not in OTHERS:
            kubernetes_validate.validate(manifest, SUPPORTED[-1], strict=True)


def named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    return next(each for each in of_kind(manifests, kind) if each["metadata"]["name"].startswith(name))


Damage: TypeAlias = Callable[[list[Manifest]], object]


def put(kind: str, name: str, path: str, value: object) -> Damage:
    """Set what stands at a path of keys and numbers; None takes it away."""

    def damage(manifests: list[Manifest]) -> None:
        node: Any = named(manifests, kind, name)
        *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in way:
            node = node[key]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return damage


def put_pod(path: str, value: object) -> Damage:
    return put("Deployment", "scorer", f"spec.template.spec.{path}", value)


def put_container(path: str, value: object) -> Damage:
    return put_pod(f"containers.0.{path}", value)


def remove(kind: str, name: str) -> Damage:
    return lambda manifests: manifests.remove(named(manifests, kind, name))


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
    (checks.images_are_pinned, put_container("image", "labelloop/scorer:latest")),
    (checks.images_are_pinned, put_container("image", "labelloop/scorer")),
    (checks.settings_exist, put_container("env.0.name", "LABELLOOP_CACHE_SIZE")),
    (checks.pods_are_restricted, put_container("securityContext.readOnlyRootFilesystem", None)),
    (checks.pods_are_restricted, put_container("securityContext.capabilities.add", ["NET_RAW"])),
    (checks.pods_are_restricted, put_pod("securityContext.seccompProfile", None)),
    (checks.secrets_come_from_elsewhere, lambda manifests: manifests.append(SECRET)),
    (checks.secrets_come_from_elsewhere, remove("Certificate", "scorer")),
    (checks.secrets_come_from_elsewhere, remove("Job", "keys")),
    (checks.config_maps_exist, remove("ConfigMap", "nats-config")),
    (checks.volumes_are_there, put_pod("volumes.0", None)),
    (checks.drains_end_in_time, put_pod("terminationGracePeriodSeconds", 20)),
    (checks.only_keys_holds_a_token, put_pod("automountServiceAccountToken", True)),
    (checks.only_keys_holds_a_token, put("Role", "keys", "rules.0.verbs", ["create", "get"])),
]


@pytest.mark.parametrize(("check", "damage"), BROKEN, ids=lambda each: each.__name__ if each in CHECKS else "")
def test_what_is_broken_is_found_out(check: Check, damage: Damage) -> None:
    manifests = deepcopy(list(rendered("production")))
    damage(manifests)
    assert list(check(manifests))


CALLS = {
    *(("trainer", called, port) for called, port in (("nats", 4222), ("scorer", 50052), ("oracle", 50053))),
    *((caller, "nats", 4222) for caller in ("scorer", "oracle")),
    *(("client", called, port) for called, port in (("trainer", 50051), ("scorer", 50052), ("oracle", 50053))),
    ("nats", "nats", 6222),
    *(("prometheus", called, 9464) for called in ("trainer", "scorer", "oracle")),
    *((caller, "dns", 53) for caller in ("nats", "trainer", "scorer", "oracle", "keys", "client", "anybody")),
}
OUTSIDE = {("keys", somewhere, port) for somewhere in ("dns", "prometheus", "stranger") for port in (443, 6443)}
BETWEEN_OTHERS = {"prometheus", "dns", "stranger"}


def calls(manifests: Sequence[Manifest]) -> set[tuple[str, str, int]]:
    return {call for call in admitted(manifests) if not {call[0], call[1]} <= BETWEEN_OTHERS}


def test_policies_admit_exactly_the_calls_of_the_diagram() -> None:
    assert calls(rendered("production")) == CALLS | OUTSIDE


def test_a_policy_that_is_missing_or_too_wide_is_noticed() -> None:
    manifests = deepcopy(list(rendered("production")))
    manifests.remove(named(manifests, "NetworkPolicy", "default-deny"))
    assert calls(manifests) > CALLS
    manifests = deepcopy(list(rendered("production")))
    named(manifests, "NetworkPolicy", "scorer")["spec"]["ingress"][0].pop("from")
    assert ("stranger", "scorer", 50052) in calls(manifests)
    assert calls(rendered("local")) > CALLS | OUTSIDE
