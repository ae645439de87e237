"""Locks and versions of container images; no engine is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docker.stack import COMPOSE, SERVICES
from tests.docker.supplies import DOCKERFILE, LOCKS, ROOT, argument

PINNED = re.compile(r"^([A-Za-z0-9._-]+(?:\[[a-z0-9,-]+\])?)==(\S+)(?: ; .*)? \\$", re.MULTILINE)
LOCKED = [*SERVICES, "cli", "llvm"]


def pins(lock: str) -> dict[str, str]:
    return dict(PINNED.findall(lock))


@pytest.mark.parametrize("name", LOCKED)
def test_an_image_has_the_versions_that_were_tested(name: str) -> None:
    tested = pins((ROOT / "requirements.lock").read_text())
    held = pins((LOCKS / f"{name}.lock").read_text())
    assert held
    assert {library: version for library, version in held.items() if tested.get(library) != version} == {}, "make lock"


@pytest.mark.parametrize(
    "heavy", ["crowd-kit", "label-studio-sdk", "matplotlib", "mlxtend", "nvidia", "pandas", "torch"]
)
def test_the_lock_stays_free_of_heavy_libraries(heavy: str) -> None:
    assert [library for library in pins((ROOT / "requirements.lock").read_text()) if library.startswith(heavy)] == []


@pytest.mark.parametrize(
    "lock",
    [*(LOCKS / f"{name}.lock" for name in (*LOCKED, "torch")), *(ROOT / "deploy" / "environments").glob("*.lock")],
    ids=lambda lock: lock.stem,
)
def test_a_lock_has_versions_and_hashes_but_no_urls(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines)


def test_the_torch_version_is_the_one_of_the_project() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert pins((LOCKS / "torch.lock").read_text())["torch"] == f"{settings['labelloop']['torch']}+cpu"
    assert argument("TORCH_CPU_INDEX") == settings["uv"]["index"][0]["url"]


def test_images_have_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert argument("VERSION") == version
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert {services[name]["image"] for name in SERVICES} == {f"labelloop/{name}:{version}" for name in SERVICES}


def test_base_images_and_the_broker_image_are_pinned() -> None:
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", argument("PYTHON_IMAGE"))
    froms = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert set(froms) <= {"${PYTHON_IMAGE}", *stages}
    assert re.fullmatch(r"nats:\d+\.\d+\.\d+", yaml.safe_load(COMPOSE.read_text())["services"]["nats"]["image"])
