"""The overlay that the tests install, rendered: it passes every check, and touches nothing of the cluster's."""

from __future__ import annotations

import os
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.checks import CHECKS
from tests.deploy.manifests import of_kind
from tests.deploy.rendering import KUBERNETES, Manifest, render
from tests.kubernetes.installation import Installation
from tests.kubernetes.overlay import LABEL, namespace_overlay, overlay

NAMESPACE = "labelloop-test-abc"
OPERATORS = ("cert-manager.io", "monitoring.coreos.com")


def rendered(folder: Path, name: str, images: str = "") -> list[Manifest]:
    content = overlay(os.path.relpath(KUBERNETES, folder.resolve()), name, NAMESPACE, images)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return render(folder)


@pytest.mark.parametrize("name", ["local", "production"])
def test_the_overlay_is_valid_and_wholly_in_its_namespace(name: str, tmp_path: Path) -> None:
    manifests = rendered(tmp_path, name)
    for manifest in manifests:
        assert manifest["metadata"]["namespace"] == NAMESPACE, manifest["kind"]
        if not manifest["apiVersion"].startswith(OPERATORS):
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    for manifest in of_kind(manifests, "Deployment", "StatefulSet"):
        assert manifest["spec"]["template"]["metadata"]["labels"][LABEL] == NAMESPACE
    assert [fault for check in CHECKS for fault in check(manifests)] == []


def test_images_come_from_the_registry_that_is_named(tmp_path: Path) -> None:
    manifests = rendered(tmp_path, "production", "registry.example:5000/labelloop:1.2.3")
    names = {
        container["image"]
        for manifest in of_kind(manifests, "Deployment", "StatefulSet")
        for part in ("containers", "initContainers")
        for container in manifest["spec"]["template"]["spec"].get(part, ())
    }
    ours = {f"registry.example:5000/labelloop/{each}:1.2.3" for each in ("trainer", "scorer", "oracle", "cli")}
    assert names == ours | {"nats:2.12.7"}


def test_the_namespace_has_the_name_of_the_test(tmp_path: Path) -> None:
    content = namespace_overlay(os.path.relpath(KUBERNETES, tmp_path.resolve()), NAMESPACE)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    [namespace] = render(tmp_path)
    assert namespace["metadata"]["name"] == NAMESPACE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_commands_of_the_page_are_run_for_the_installation(tmp_path: Path) -> None:
    installation = Installation(NAMESPACE, tmp_path, "production")
    said = installation.run_page("echo kubectl -n labelloop delete -k deploy/kubernetes/overlays/production")
    assert said == f"kubectl -n {NAMESPACE} delete -k overlay\n"
    with pytest.raises(AssertionError, match="stands for nothing"):
        installation.run_page("echo deploy/kubernetes/claims/pools")
