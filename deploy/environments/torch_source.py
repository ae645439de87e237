"""Choose the source of PyTorch: a build for the CPU, and one for CUDA only if asked for.

On Linux, PyPI's own builds bring gigabytes of CUDA libraries that nothing here uses. PyTorch's own index has builds for
the CPU. If that index is out of reach, pip may still find one, in a mirror or a folder that its configuration names.
"""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments.pythons import Interpreter

_REACH_TIMEOUT_S = 5
_PIP_TIMEOUT_S = 120


@dataclass(frozen=True)
class TorchSource:
    """A source to install PyTorch from.

    Attributes:
        requirement: Requirement for uv to install.
        options: Additional options for uv.
        told: Short description to print while installing.
    """

    requirement: str
    options: tuple[str, ...]
    told: str


def index_source(version: str, index: str) -> TorchSource | None:
    """Return PyTorch's own index at ``index``, or None if it does not answer; on systems other than Linux, PyPI."""
    if platform.system() != "Linux":
        return TorchSource(f"torch=={version}", ("--no-sources",), "torch")
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=_REACH_TIMEOUT_S):
            pass
    except (urllib.error.URLError, TimeoutError):
        return None
    return TorchSource(f"torch=={version}", (), f"torch for the CPU from {index}")


def pip_source(version: str, python: Interpreter, pip: Sequence[str]) -> TorchSource | None:
    """Return the wheel ``version+cpu`` that the command ``pip`` finds for ``python``, or None if it finds none.

    The local version ``+cpu`` keeps pip from considering, and downloading, a build for CUDA.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = (
            *(*pip, "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", "--only-binary", ":all:"),
            *("--target", folder, "--report", str(report), "--python-version", ".".join(map(str, python.version))),
            f"torch=={version}+cpu",
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        if done.returncode != 0:
            return None
        url = json.loads(report.read_text())["install"][0]["download_info"]["url"]
    return TorchSource(f"torch @ {url}", ("--no-sources",), "torch for the CPU from where pip finds it")


def cuda_source(version: str) -> TorchSource:
    """Return PyPI's build, which brings CUDA with it on Linux."""
    return TorchSource(
        f"torch=={version}", ("--no-sources",), "torch with CUDA, gigabytes, because TORCH=cuda asks for it"
    )
