"""The stack of compose.yaml: isolation, a run to its end, and its persistence."""

from __future__ import annotations

import json
import sys

import pytest

from tests.blobs import Blobs
from tests.docker.stack import PORTS, SERVICES, Stack
from tests.docker.supplies import ROOT
from tests.hostile_graphs import costly_graph

pytestmark = pytest.mark.timeout(900)

MB = 1024 * 1024


@pytest.mark.parametrize("service", [*SERVICES, "nats"])
def test_containers_have_restricted_privileges_and_memory(stack: Stack, service: str) -> None:
    host = stack.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert 512 * MB <= host["Memory"] <= 2048 * MB


@pytest.mark.parametrize("service", SERVICES)
def test_processes_have_no_capabilities_and_run_as_user_65532(stack: Stack, service: str) -> None:
    status = stack.engine.docker("exec", stack.container(service), "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert set(fields["Uid"].split()) == {"65532"}


def test_only_grpc_is_published_and_only_on_localhost(stack: Stack) -> None:
    for service in (*SERVICES, "nats"):
        bindings = stack.inspect(service)["HostConfig"]["PortBindings"]
        port = PORTS.get(service)
        expected = {f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]} if port else {}
        assert bindings == expected


def test_all_containers_share_their_own_network(stack: Stack) -> None:
    for service in (*SERVICES, "nats"):
        assert list(stack.inspect(service)["NetworkSettings"]["Networks"]) == ["labelloop_labelloop"]


def test_a_run_finishes(stack: Stack, run_id: str) -> None:
    said = stack.command("run", "list")
    assert run_id in said
    assert "finished" in said


def test_hostile_clients_do_no_harm_to_the_published_ports(stack: Stack, blobs: Blobs) -> None:
    graph = blobs.samples.with_name("costly.onnx")
    graph.write_bytes(costly_graph().data)
    before = [stack.inspect(service)["State"]["StartedAt"] for service in SERVICES]
    names = [path.name for path in (blobs.samples, blobs.labels, graph)]
    script = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.docker.hostile_client", *names)
    stack.engine.checked(stack.engine.inside(*script))
    assert [stack.inspect(service)["State"]["StartedAt"] for service in SERVICES] == before


def test_services_exit_cleanly_on_sigterm_and_runs_outlive_containers(stack: Stack, run_id: str) -> None:
    stack.compose("stop", "--timeout", "20")
    for service in SERVICES:  # 137, a SIGKILL, means that SIGTERM did not reach Python
        assert json.loads(stack.engine.docker("inspect", *stopped(stack, service)))[0]["State"]["ExitCode"] == 0
    stack.compose("rm", "--force")
    stack.up()
    assert run_id in stack.command("run", "list")


def stopped(stack: Stack, service: str) -> list[str]:
    """Return the ids of a service's containers, running or not."""
    return stack.compose("ps", "--all", "--quiet", service).splitlines()
