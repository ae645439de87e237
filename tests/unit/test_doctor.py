"""``labelloop doctor``: missing requirements fail, other findings do not."""

from __future__ import annotations

import gzip
import io
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from labelloop.errors import WrongState
from labelloop_cli.extras import Extras, check_installed, extras_here
from labelloop_cli.local.checks import (
    Check,
    disk_check,
    extra_checks,
    mnist_check,
    nats_check,
    port_check,
    python_check,
    torch_check,
)
from labelloop_cli.local.host import Host
from labelloop_cli.local.stack import running
from labelloop_cli.operations.doctor import checks, exit_code, render
from rich.console import Console

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

REQUIRES = [
    "numpy>=2",
    "colorama; sys_platform == 'win32'",
    "exceptiongroup; python_version < '3.11'",
    "labelloop[trainer,scorer]; extra == 'all'",
    "labelloop[torch]; extra == 'trainer'",
    "torch; extra == 'torch'",
    "onnx; extra == 'trainer'",
    "onnx; extra == 'scorer'",
    "starlette; extra == 'oracle'",
    "llvmlite; extra == 'llvm'",
    "aio-pika; extra == 'amqp'",
    "boto3; extra == 'sqs'",
    "s3fs; extra == 's3'",
    "pyarrow; extra == 'parquet'",
    "mlxtend; extra == 'digits'",
]
INSTALLED: dict[str, str | None] = {
    **dict.fromkeys(("torch", "onnx", "starlette", "llvmlite", "aio-pika", "boto3", "s3fs", "pyarrow", "mlxtend"), "9"),
    **{"numpy": "2.0", "labelloop": "0.1.0"},
}


def extras(**versions: str | None) -> Extras:
    """Return a wheel's extras, with everything installed except as ``versions`` says."""
    return Extras(REQUIRES, {**INSTALLED, **versions}.get)


def host_with(folder: Path, says: str) -> Host:
    """Return a machine with one nats-server, which prints ``says`` as its version."""
    server = folder / "nats-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)

    def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        assert list(command) == [str(server), "--version"]
        return subprocess.CompletedProcess(command, 0, says)

    return Host(env={"PATH": str(folder)}, more_dirs=(), run=run)


def without_nats() -> Host:
    return Host(env={"PATH": ""}, more_dirs=())


def test_the_environment_of_these_tests_passes_unless_torch_is_missing(tmp_path: Path) -> None:
    found = checks(extras_here(), tmp_path, None, tmp_path, host_with(tmp_path, "nats-server: v2.12.7\n"))
    with_torch = find_spec("torch") is not None
    assert [check.name for check in found if not check.ok] == ([] if with_torch else ["trainer", "torch"])
    assert exit_code(found) == (0 if with_torch else 1)


def test_a_missing_program_fails_and_is_shown_with_advice(tmp_path: Path) -> None:
    found = checks(extras_here(), tmp_path, None, tmp_path, without_nats())
    output = io.StringIO()
    Console(file=output, width=500).print(render(found))
    shown = next(line for line in output.getvalue().splitlines() if "nats-server" in line)
    assert "missing" in shown
    assert "apt-get install nats-server" in shown
    assert exit_code(found) == 1


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13), (3, 14)])
def test_supported_pythons_are_ok(version: tuple[int, int]) -> None:
    assert python_check(version) == Check("Python", True, f"3.{version[1]}")


@pytest.mark.parametrize("version", [(3, 10), (3, 15), (4, 0)])
def test_other_pythons_are_not_ok(version: tuple[int, int]) -> None:
    check = python_check(version)
    assert not check.ok
    assert check.advice == "use Python 3.11 to 3.14"


def test_extras_that_are_installed_are_ok() -> None:
    assert all(check.ok and not check.advice for check in extra_checks(extras()))


def test_missing_libraries_of_a_service_are_listed_with_its_extra() -> None:
    found = {check.name: check for check in extra_checks(extras(onnx=None, torch=None))}
    assert found["trainer"] == Check(
        "trainer", False, "libraries missing: onnx, torch", "pip install 'labelloop[trainer]'"
    )
    assert not found["scorer"].ok
    assert found["oracle"].ok
    assert found["command"].ok


def test_a_library_in_an_unsupported_version_counts_as_missing() -> None:
    assert extras(numpy="1.26.4").missing() == ["numpy"]
    assert extras(numpy="2.4.6").missing() == []


def test_requirements_for_other_pythons_and_systems_are_ignored() -> None:
    assert extras(colorama=None).missing() == []


def test_optional_libraries_may_be_missing() -> None:
    found = {check.name: check for check in extra_checks(extras(llvmlite=None))}
    assert found["llvm"] == Check(
        "llvm", True, "optional, not installed: llvmlite", "faster rankings and fits: pip install 'labelloop[llvm]'"
    )


def test_an_extra_absent_from_the_metadata_is_not_reported_as_installed() -> None:
    found = {check.name: check for check in extra_checks(Extras(["numpy"], INSTALLED.get))}
    assert not found["trainer"].ok
    assert found["llvm"].advice.endswith("install labelloop again")


def test_in_a_checkout_the_advice_is_make_setup() -> None:
    checkout = Extras(REQUIRES, lambda name: None, Path("/clone"))
    assert {check.advice for check in extra_checks(checkout) if not check.ok} == {"run `make setup`"}


def test_the_check_before_a_start_names_the_services_that_lack_libraries() -> None:
    check_installed("trainer", "scorer", "oracle", extras=extras())
    with pytest.raises(WrongState, match=r"the trainer lacks onnx; the scorer lacks onnx.*labelloop\[trainer,scorer\]"):
        check_installed("trainer", "scorer", "oracle", extras=extras(onnx=None))


async def test_nothing_is_started_or_written_if_libraries_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelloop_cli.extras.extras_here", lambda: extras(onnx=None))
    with pytest.raises(WrongState, match="the trainer lacks onnx"):
        async with running(tmp_path / "store"):
            pytest.fail("it started")
    assert [*tmp_path.iterdir()] == []


def test_a_distribution_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(WrongState, match="not installed"):
        extras_here("labelloop-of-tomorrow")


def test_the_version_of_torch_is_reported() -> None:
    check = torch_check(extras_here())
    assert check.ok == (find_spec("torch") is not None)
    assert check.found.startswith("2.") or check.found == "not installed"


@pytest.mark.parametrize(("says", "advised"), [("v2.9.10", True), ("v2.12.7", False), ("v2.15.1", False)])
def test_an_old_nats_server_is_ok_but_comes_with_advice(tmp_path: Path, says: str, advised: bool) -> None:
    check = nats_check(tmp_path / "cache", host_with(tmp_path, f"nats-server: {says}\n"))
    assert check.ok
    assert check.found.startswith(says)
    assert bool(check.advice) is advised


def test_a_program_that_is_no_nats_server_is_not_ok(tmp_path: Path) -> None:
    assert not nats_check(tmp_path / "cache", host_with(tmp_path, "hello")).ok


def test_a_configured_path_without_a_nats_server_is_not_ok(tmp_path: Path) -> None:
    check = nats_check(tmp_path, Host(env={"LABELLOOP_NATS_SERVER": str(tmp_path / "absent")}))
    assert not check.ok
    assert "absent" in check.advice


def test_a_nats_server_that_does_not_run_is_not_ok(tmp_path: Path) -> None:
    host = host_with(tmp_path, "")
    (tmp_path / "nats-server").write_text("no program at all")
    check = nats_check(tmp_path / "cache", Host(env=host.env, more_dirs=()))
    assert not check.ok
    assert "does not run" in check.found


def test_mnist_is_found_in_the_cache_and_preferably_in_the_data_folder(tmp_path: Path) -> None:
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


def test_an_incomplete_mnist_in_the_data_folder_is_not_ok(tmp_path: Path) -> None:
    (tmp_path / MNIST[0]).touch()
    check = mnist_check(tmp_path / "cache", tmp_path)
    assert not check.ok
    assert "1 of 4" in check.found


def test_a_full_disk_is_not_ok_even_if_the_folder_does_not_exist_yet(tmp_path: Path) -> None:
    assert disk_check(tmp_path / "to/be/made", needed_bytes=1).ok
    assert not disk_check(tmp_path / "to/be/made", needed_bytes=10**18).ok


def test_an_address_that_cannot_be_listened_on_is_not_ok() -> None:
    assert port_check().ok
    assert not port_check("192.0.2.1").ok  # reserved for documentation: no machine has it
