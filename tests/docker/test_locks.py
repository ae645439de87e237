"""Locks and versions of container images; no engine is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.docker.stack import COMPOSE, SERVICES
from tests.docker.supplies import DOCKERFILE, LOCKS, ROOT, argument

PINNED = re.compile(r"^([A-Za-z0-9._-]+(?:\[[a-z0-9,-]+\])?)==(\S+)(?: ; .*)? \\$", re.MULTILINE)
LOCKED = [*SERVICES, "cli", "shared", "services", "llvm"]


def pins(lock: str) -> dict[str, str]:
    return dict(PINNED.findall(lock))


@pytest.mark.parametrize("name", LOCKED)
def test_an_image_has_the_versions_that_were_tested(name: str) -> None:
    tested = pins((ROOT / "requirements.lock").read_text())
    held = pins((LOCKS / f"{name}.lock").read_text())
    assert held
    assert {library: version for library, version in held.items() if tested.get(library) != version} == {}, "make lock"


@pytest.mark.parametrize("heavy", ["crowd-kit", "label-studio-sdk", "matplotlib", "mlxtend", "nvidia", "torch"])
def test_the_lock_stays_free_of_heavy_libraries(heavy: str) -> None:
    assert [library for library in pins((ROOT / "requirements.lock").read_text()) if library.startswith(heavy)] == []


@pytest.mark.parametrize("name", LOCKED)
def test_images_stay_free_of_what_only_tests_need(name: str) -> None:
    assert not {"hypothesis", "pandas", "playwright", "pytest"} & pins((LOCKS / f"{name}.lock").read_text()).keys()


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


def test_what_several_images_hold_is_in_one_lock() -> None:
    held = {name: pins((LOCKS / f"{name}.lock").read_text()).keys() for name in LOCKED if name != "llvm"}
    shared, services = held.pop("shared"), held.pop("services")
    assert not any((shared | services) & each for each in held.values())
    assert not shared & services
    assert not held["trainer"] & held["scorer"] & held["oracle"]


def test_no_library_is_older_than_the_first_without_a_known_flaw() -> None:
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([0-9.]+) \| CVE-", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    floors = {library: Version(version) for library, version in rows}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [Requirement(each) for group in (project["dependencies"], *extras) for each in group]
    assert floors
    assert floors.keys() <= {each.name for each in asked}
    for each in asked:
        if floor := floors.get(each.name):
            assert [Version(bound.version) >= floor for bound in each.specifier if bound.operator == ">="] == [True], (
                each
            )
    for lock in (ROOT / "requirements.lock", *LOCKS.glob("*.lock")):
        old = {n: v for n, v in pins(lock.read_text()).items() if n in floors and Version(v) < floors[n]}
        assert old == {}, lock


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
    assert set(froms) <= {"${PYTHON_IMAGE}", "scratch", *stages}
    assert re.fullmatch(r"nats:\d+\.\d+\.\d+", yaml.safe_load(COMPOSE.read_text())["services"]["nats"]["image"])
