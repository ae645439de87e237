"""An installation in a namespace of its own, and kubectl for it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.rendering import kubectl

_NAMESPACE = "-n labelloop"
_APPLY = ("apply", "--server-side", "--field-manager=labelloop", "-k")
_COMMAND_S = 900


@dataclass(frozen=True)
class Installation:
    """``folder`` holds the kustomizations ``overlay`` and ``namespace``, and is where commands of the page run."""

    namespace: str
    folder: Path
    name: str

    @property
    def is_production(self) -> bool:
        return self.name == "production"

    def kubectl(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run kubectl in the namespace, and return its output; AssertionError with what it says if it fails."""
        command = [kubectl(), "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=_COMMAND_S)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode()

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "--output", "json"))

    def run_page(self, text: str) -> str:
        """Run commands of deploy/README.md, with this installation in the place of the page's."""
        ours = text.replace(_NAMESPACE, f"-n {self.namespace}")
        for overlay in ("deploy/kubernetes/overlays/production", "YOUR-OVERLAY"):
            ours = ours.replace(overlay, "overlay")
        ours = ours.replace("deploy/kubernetes/namespace", "namespace")
        assert "deploy/kubernetes" not in ours, "the page names a folder that stands for nothing here"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", ours],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_S,
        )
        assert done.returncode == 0, f"{ours}\n{done.stdout}{done.stderr}"
        return done.stdout

    def apply(self) -> None:
        self.kubectl(*_APPLY, str(self.folder / "namespace"))
        self.kubectl(*_APPLY, str(self.folder / "overlay"))

    def wait(self) -> None:
        """Wait until the broker and all Deployments are as they should be."""
        self.kubectl("rollout", "status", "statefulset", "nats", "--timeout=10m")
        for each in self.get("deployments")["items"]:
            self.kubectl("rollout", "status", "deployment", each["metadata"]["name"], "--timeout=10m")

    def labelloop(self, *arguments: str) -> str:
        """Run `labelloop` in the pod of the client."""
        return self.kubectl("exec", "deployment/client", "--", "labelloop", *arguments)

    def put(self, file: Path) -> str:
        """Copy a file into the pod of the client, and return its path there."""
        there = f"/tmp/{file.name}"
        write = ("sh", "-c", f"cat >{there}")
        self.kubectl("exec", "--stdin", "deployment/client", "--", *write, stdin=file.read_bytes())
        return there

    def labels(self, run: str) -> list[str]:
        """Return the rows of a run's labels."""
        there = f"/tmp/{run}.csv"
        self.labelloop("export", "labels", run, "--output", there)
        return sorted(self.kubectl("exec", "deployment/client", "--", "cat", there).splitlines())

    def versions(self) -> dict[str, str]:
        """Return the version of each object of the overlay, by kind and name: it changes with each write."""
        kinds = "deployments,statefulsets,services,configmaps,networkpolicies,poddisruptionbudgets,roles,rolebindings"
        found = self.get(f"{kinds},serviceaccounts", "--selector", f"labelloop-test={self.namespace}")["items"]
        return {f"{each['kind']}/{each['metadata']['name']}": _generation(each) for each in found}

    def pods(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("pods", "--selector", f"app.kubernetes.io/name={name}")["items"]
        return found


def _generation(each: dict[str, Any]) -> str:
    """The generation counts changes of what is wanted; where there is none, the version is that of the last write."""
    metadata = each["metadata"]
    return str(metadata.get("generation") or metadata["resourceVersion"])
