"""A Docker engine for the tests: dockerd in its own namespaces, with its data in its own folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

NEEDED = (
    *("docker", "dockerd", "docker-init", "containerd", "runc", "iptables"),  # the engine
    *("ip", "unshare", "nsenter", "setpriv"),  # its namespaces
    "debootstrap",  # its images
)
_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1


class EngineFailed(Exception):
    """The engine did not start; the end of its log says why."""


class Engine:
    """Run dockerd in network, mount and process namespaces, which end with their first process, dockerd's parent.

    Containers, bridges and iptables are separate from the host's. Ports are published on the loopback of that network
    only; :meth:`inside` runs a command there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._socket = folder, folder / "docker.sock"
        self._cgroup = f"labelloop-{os.getpid()}"
        self._unshare: subprocess.Popen[bytes] | None = None
        self._pid = 0
        # Every engine has the classic builder; with it the Dockerfile cannot use features of BuildKit.
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{self._socket}", "DOCKER_BUILDKIT": "0"}

    def start(self) -> None:
        """Return once it responds. Raise EngineFailed if it does not."""
        dockerd = [
            *("dockerd", "--host", f"unix://{self._socket}", "--data-root", str(self._folder / "data")),
            *("--exec-root", str(self._folder / "exec"), "--pidfile", str(self._folder / "pid")),
            *("--cgroup-parent", f"/{self._cgroup}"),
        ]
        with self._log.open("wb") as output:
            self._unshare = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),  # it ends with this process, even a killed one
                    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("sh", "-c", 'ip link set lo up && exec docker-init -- "$@"', "sh", *dockerd),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops it
            )
        deadline_s = time.monotonic() + _READY_WITHIN_S
        while self._run(["docker", "version"]).returncode:
            if self._unshare.poll() is not None or time.monotonic() > deadline_s:
                raise EngineFailed("\n".join(self._log.read_text(errors="replace").splitlines()[-5:]))
            time.sleep(_LOOK_EVERY_S)
        self._pid = _only_child(self._unshare.pid)

    @property
    def _log(self) -> Path:
        return self._folder / "dockerd.log"

    def stop(self) -> None:
        """Stop it and all that it started; safe to call at any time."""
        if self._unshare is None:
            return
        if self._pid and self._unshare.poll() is None:
            os.kill(self._pid, signal.SIGTERM)  # it stops its containers and unmounts
            try:
                self._unshare.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.kill(self._pid, signal.SIGKILL)  # the first process of the namespace, with which all others end
        self._unshare.kill()
        self._unshare.wait()
        self._unshare = None
        self._remove_cgroups()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _remove_cgroups(self) -> None:
        for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
            ours = root / self._cgroup
            for folder in sorted([ours, *ours.rglob("*/")], reverse=True) if ours.is_dir() else []:
                folder.rmdir()

    def docker(self, *arguments: str | Path, timeout_s: float = 600) -> str:
        """Return the command's stdout; raise AssertionError with all its output if it fails."""
        return self.checked(["docker", *arguments], timeout_s=timeout_s)

    def inside(self, *command: str | Path) -> list[str | Path]:
        """Return the command wrapped to run on the engine's network."""
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", *command]

    def checked(self, command: list[str | Path], *, timeout_s: float = 600) -> str:
        done = self._run(command, timeout_s=timeout_s)
        said = done.stdout.decode(errors="replace")
        problem = done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(map(str, command))}\nleft with {done.returncode}\n{said}\n{problem}"
        return said.strip()

    def _run(self, command: list[str | Path], *, timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )


def _only_child(pid: int) -> int:
    """Return the child of ``unshare``: docker-init, which forwards signals and reaps orphans."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def missing() -> list[str]:
    """Return the prerequisites of an engine that this machine lacks."""
    return [name for name in NEEDED if shutil.which(name) is None] + (["root"] if os.geteuid() else [])
