"""Manifests rendered by kubectl."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

Manifest: TypeAlias = dict[str, Any]

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
_KUSTOMIZE_MIN = (5, 0)  # components, merges of generators and patches as they are used here


@cache
def kubectl() -> str:
    """Return the program, by LABELLOOP_KUBECTL or on the PATH; skip the test if there is none new enough."""
    found = os.environ.get("LABELLOOP_KUBECTL") or shutil.which("kubectl")
    if not found:
        pytest.skip("no kubectl on the PATH: install one, or name it with LABELLOOP_KUBECTL")
    said = subprocess.run([found, "version", "--client"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"Kustomize Version: v(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < _KUSTOMIZE_MIN:
        wanted = ".".join(map(str, _KUSTOMIZE_MIN))
        pytest.skip(f"{found} has no Kustomize {wanted}: name a newer one with LABELLOOP_KUBECTL")
    return found


def render(folder: Path) -> list[Manifest]:
    """Return the documents of a kustomization; AssertionError with kubectl's message if it does not render."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
