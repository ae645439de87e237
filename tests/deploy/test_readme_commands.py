"""Every command of deploy/README.md, run by a shell: kubectl is the real one, against an API server on localhost.

What needs a pod that runs (exec, cp, port-forward) is followed up to the connection, which the server refuses. Other
programs are noted; the arguments of `labelloop` are parsed as it parses them.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from labelloop_cli.__main__ import app
from labelloop_cli.operations.keys import missing_nkeys

from tests.deploy.fake_cluster import FakeCluster
from tests.deploy.fake_server import kubeconfig, serving
from tests.deploy.manifests import of_kind, workloads
from tests.deploy.readme import Block, blocks, commands
from tests.deploy.rendering import KUBERNETES, Manifest, kubectl, render

PODS_OF = ("trainer", "scorer", "oracle", "client", "nats")
SHIM = """#!/bin/bash
# {name}
echo "$(printf '%q ' "$@")" >>{folder}/{name}.calls
"""
# kubectl validates what it applies by the server's own description, which this server has not.
KUBECTL = """#!/bin/bash
export KUBECONFIG={folder}/config HOME={folder}
case " $* " in
  *" apply "*) set -- "$@" --validate=false ;;
esac
{kubectl} "$@" 2>{folder}/stderr.$$ || grep -q 'is not served here' {folder}/stderr.$$ ||
  echo "$*: $(cat {folder}/stderr.$$)" >>{folder}/failures
cat {folder}/stderr.$$ >&2
"""


def in_namespace(kind: str, name: str, **more: object) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "labelloop"}, **more}


def secrets() -> Iterator[Manifest]:
    for name in ("authority", "authority-previous", "nats", "trainer", "scorer", "oracle", "client"):
        yield in_namespace("Secret", f"tls-{name}", data=dict.fromkeys(("tls.crt", "tls.key", "ca.crt"), "UEVN"))
    for user in ("trainer", "scorer", "oracle", "import"):
        pairs = {key: base64.b64encode(value).decode() for key, value in missing_nkeys({}).items()}
        yield in_namespace("Secret", f"nkey-{user}", data=pairs)


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    for workload in workloads(manifests):
        for number in range(workload.replicas or 1):
            pod = in_namespace("Pod", f"{workload.name}-{number}", spec=workload.pod)
            pod["metadata"]["labels"] = workload.labels
            yield pod


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Production with the client and the claims, and what operators and controllers make."""
    folder = tmp_path_factory.mktemp("overlay")
    way = os.path.relpath(KUBERNETES, folder.resolve())
    (folder / "kustomization.yaml").write_text(
        f"namespace: labelloop\nresources: [{way}/overlays/production]\ncomponents: [{way}/components/client]\n"
    )
    found = [*render(folder), *render(KUBERNETES / "namespace"), *render(KUBERNETES / "claims/pools")]
    for number in range(3):
        claim = in_namespace("PersistentVolumeClaim", f"data-nats-{number}", spec={"resources": {}})
        claim["metadata"]["labels"] = {"app.kubernetes.io/name": "nats"}
        found.append(claim)
    return [*found, *secrets(), *pods(found)]


@pytest.fixture
def cluster(installed: list[Manifest]) -> Iterator[FakeCluster]:
    with serving() as cluster:
        for manifest in installed:
            cluster.put(manifest)
        yield cluster


@pytest.fixture
def machine(cluster: FakeCluster, tmp_path: Path) -> Path:
    """A folder to run commands in, with the programs that the page names in its `bin`."""
    (tmp_path / "bin").mkdir()
    shims = {name: SHIM.format(name=name, folder=tmp_path) for name in ("labelloop", "kind", "docker", "nats", "nk")}
    shims["kubectl"] = KUBECTL.format(folder=tmp_path, kubectl=kubectl())
    for name, text in shims.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    kubeconfig(cluster, tmp_path / "config")
    (tmp_path / "deploy").symlink_to(KUBERNETES.parent)
    (tmp_path / "YOUR-OVERLAY").symlink_to(KUBERNETES / "overlays" / "production")
    (tmp_path / "my-pool").mkdir()
    (tmp_path / "run.zip").touch()
    return tmp_path


def run_in(machine: Path, text: str) -> None:
    """Run commands up to the first failure; one of kubectl counts in the background too."""
    environment = {**os.environ, "PATH": f"{machine / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{text}\nwait"],
        cwd=machine,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    failures = machine / "failures"
    assert not failures.exists(), failures.read_text()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.name)
def test_every_command_of_the_page_runs(block: Block, machine: Path, cluster: FakeCluster) -> None:
    if "create secret" in block.text:  # the only one that other blocks must find and this one must not
        del cluster.objects[("Secret", "labelloop", "tls-authority-previous")]
    run_in(machine, f"{variables(block)}\n{block.text}")
    calls = machine / "labelloop.calls"
    for call in calls.read_text().splitlines() if calls.exists() else ():
        parse(shlex.split(call))


def variables(block: Block) -> str:
    """Return what earlier blocks of the same procedure have set."""
    lines = [line for each in blocks() if each.heading == block.heading for line in each.text.splitlines()]
    return "\n".join(line for line in lines if re.match(r"\w+=\S", line))


def parse(arguments: list[str]) -> None:
    """Parse the arguments of `labelloop`; click's UsageError if it would refuse them."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("labelloop", arguments)
    while left := [*getattr(context, "_protected_args", ()), *context.args]:
        name, command, left = command.resolve_command(context, left)
        context = command.make_context(name, left, parent=context)


@pytest.mark.parametrize("arguments", [["runs", "list"], ["run", "list", "--colour"], ["keys", "follow", "a"]])
def test_arguments_that_labelloop_refuses_are_not_parsed(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such|Missing"):
        parse(arguments)


def test_commands_in_pods_are_ones_of_labelloop(machine: Path, cluster: FakeCluster) -> None:
    for block in blocks():
        if "exec " in block.text:
            run_in(machine, f"{variables(block)}\n{block.text}")
    asked = [request.query["command"] for request in cluster.requests if request.path.endswith("/exec")]
    ours = [command[1:] for command in asked if command[0] == "labelloop"]
    assert ours
    for command in ours:
        parse(command)


@pytest.mark.parametrize("command", ["rollout restart statefulset/nats deployment", "delete pod nobody", "aply -k ."])
def test_a_command_that_kubectl_refuses_fails(command: str, machine: Path) -> None:
    with pytest.raises(AssertionError):
        run_in(machine, f"kubectl -n labelloop {command}")


def test_the_exchange_of_keys_makes_the_next_one_the_one_in_use(machine: Path, cluster: FakeCluster) -> None:
    before = dict(cluster.get("Secret", "nkey-scorer")["data"])
    run_in(machine, commands("Rotate", '"op": "move"'))
    after = cluster.get("Secret", "nkey-scorer")["data"]
    for key in ("seed", "public"):
        assert (after[key], after[f"next-{key}"]) == (before[f"next-{key}"], before[key])
    assert after.keys() == before.keys()
    run_in(machine, commands("Rotate", '"op": "remove"'))
    assert cluster.get("Secret", "nkey-scorer")["data"].keys() == {"seed", "public"}


def test_the_previous_authority_is_kept_without_its_key(machine: Path, cluster: FakeCluster) -> None:
    del cluster.objects[("Secret", "labelloop", "tls-authority-previous")]
    kept = cluster.get("Secret", "tls-authority")["data"]["tls.crt"]
    run_in(machine, commands("Rotate", "base64 -d"))
    assert cluster.get("Secret", "tls-authority-previous")["data"] == {"tls.crt": kept}


def test_larger_disks_expand_every_claim_and_replace_the_stateful_set(machine: Path, cluster: FakeCluster) -> None:
    run_in(machine, commands("Scale", "patch pvc"))
    claims = [cluster.get("PersistentVolumeClaim", f"data-nats-{number}") for number in range(3)]
    assert {claim["spec"]["resources"]["requests"]["storage"] for claim in claims} == {"100Gi"}
    before = cluster.get("StatefulSet", "nats")["metadata"]["generation"]
    run_in(machine, commands("Scale", "--cascade=orphan"))
    [deleted] = [each for each in cluster.requests if each.method == "DELETE"]
    assert deleted.body["propagationPolicy"] == "Orphan"
    assert cluster.get("StatefulSet", "nats")["metadata"]["generation"] > before


def test_the_fragment_for_larger_disks_changes_claims_and_limit(tmp_path: Path) -> None:
    [fragment] = [each.text for each in blocks("yaml") if "volumeClaimTemplates" in each.text]
    way = os.path.relpath(KUBERNETES, tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(
        f"namespace: labelloop\nresources: [{way}/overlays/production]\n{fragment}"
    )
    manifests = render(tmp_path)
    [broker] = of_kind(manifests, "StatefulSet")
    assert broker["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "100Gi"
    [settings] = [m["data"] for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"].startswith("nats-env-")]
    assert settings["NATS_MAX_FILE_STORE"] == "80GB"
