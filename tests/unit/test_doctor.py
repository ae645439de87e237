"""The doctor looks at what is there; missing things fail, things to know do not."""

from __future__ import annotations

import gzip
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from labelloop_cli.doctor import checks, exit_code, render
from labelloop_cli.doctor_checks import (
    Check,
    disk_check,
    mnist_check,
    nats_check,
    packages_check,
    port_check,
    python_check,
    torch_check,
)
from labelloop_cli.host import Host
from rich.console import Console

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def host_with(folder: Path, says: str) -> Host:
    """A machine with one nats-server, which says ``says`` when asked for its version."""
    server = folder / "nats-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)

    def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        assert list(command) == [str(server), "--version"]
        return subprocess.CompletedProcess(command, 0, says)

    return Host(env={"PATH": str(folder)}, more_dirs=(), run=run)


def without_nats() -> Host:
    return Host(env={"PATH": ""}, more_dirs=())


def test_what_the_tests_run_on_is_complete(tmp_path: Path) -> None:
    found = checks(tmp_path, None, tmp_path, host_with(tmp_path, "nats-server: v2.12.7\n"))
    assert [check.name for check in found if not check.ok] == []
    assert exit_code(found) == 0


def test_a_missing_thing_fails_and_is_shown_with_what_to_do(tmp_path: Path) -> None:
    found = checks(tmp_path, None, tmp_path, without_nats())
    output = io.StringIO()
    Console(file=output, width=500).print(render(found))
    shown = next(line for line in output.getvalue().splitlines() if "nats-server" in line)
    assert "missing" in shown
    assert "apt-get install nats-server" in shown
    assert exit_code(found) == 1


def test_another_python_is_not_ok() -> None:
    assert python_check((3, 11)).ok
    assert python_check((3, 12)) == Check("Python", False, "3.12", "use Python 3.11: `make setup PYTHON=...`")


def test_a_distribution_that_is_not_installed_is_told() -> None:
    assert packages_check().ok
    assert "not installed" in packages_check("labelloop-of-tomorrow").found


def test_torch_s_build_is_told() -> None:
    check = torch_check()
    assert check.ok
    assert check.found.startswith("2.")


@pytest.mark.parametrize(("says", "advised"), [("v2.9.10", True), ("v2.12.7", False), ("v2.15.1", False)])
def test_an_old_nats_server_is_fine_for_trying_out(tmp_path: Path, says: str, advised: bool) -> None:
    check = nats_check(tmp_path / "cache", host_with(tmp_path, f"nats-server: {says}\n"))
    assert check.ok
    assert check.found.startswith(says)
    assert bool(check.advice) is advised


def test_a_program_that_is_no_nats_server_is_not_ok(tmp_path: Path) -> None:
    assert not nats_check(tmp_path / "cache", host_with(tmp_path, "hello")).ok


def test_a_nats_server_named_where_none_is_is_not_ok(tmp_path: Path) -> None:
    check = nats_check(tmp_path, Host(env={"LABELLOOP_NATS_SERVER": str(tmp_path / "absent")}))
    assert not check.ok
    assert "absent" in check.advice


def test_a_nats_server_that_does_not_run_is_not_ok(tmp_path: Path) -> None:
    host = host_with(tmp_path, "")
    (tmp_path / "nats-server").write_text("no program at all")
    check = nats_check(tmp_path / "cache", Host(env=host.env, more_dirs=()))
    assert not check.ok
    assert "does not run" in check.found


def test_mnist_is_found_where_it_is_looked_for(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    assert mnist_check(cache, data).ok, "it can be downloaded, or stood in for"
    (cache / "mnist").mkdir(parents=True)
    for name in MNIST:
        (cache / "mnist" / name).touch()
    assert str(cache) in mnist_check(cache, data).found
    (data / "mnist").mkdir(parents=True)
    for name in MNIST:
        (data / "mnist" / f"{name}.gz").write_bytes(gzip.compress(b""))
    assert str(data) in mnist_check(cache, data).found


def test_a_part_of_mnist_in_the_operator_s_folder_is_not_ok(tmp_path: Path) -> None:
    (tmp_path / MNIST[0]).touch()
    check = mnist_check(tmp_path / "cache", tmp_path)
    assert not check.ok
    assert "1 of 4" in check.found


def test_a_full_disk_is_not_ok_also_where_the_folder_is_yet_to_be_made(tmp_path: Path) -> None:
    assert disk_check(tmp_path / "to/be/made", needed_bytes=1).ok
    assert not disk_check(tmp_path / "to/be/made", needed_bytes=10**18).ok


def test_a_loopback_that_takes_no_listener_is_not_ok() -> None:
    assert port_check().ok
    assert not port_check("192.0.2.1").ok  # set aside for documentation: no machine's own
